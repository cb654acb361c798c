"""A file that replaces another keeps what that one has besides its content, or says what was lost."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_artifacts import Owner, Placed, may_give, replace_file, replace_files

ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
ANYBODY = Owner()
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: giving files to others needs root")


def an_acl(user: int, may: int = 7) -> bytes:
    """`user::rw-`, `user:USER:MAY`, `group::r--`, `mask::rwx`, `other::---`, as the kernel keeps it."""
    entries = [
        (1, 6, 2**32 - 1),
        (2, may, user),
        (4, 4, 2**32 - 1),
        (0x10, 7, 2**32 - 1),
        (0x20, 0, 2**32 - 1),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def has_acl(directory: Path) -> bool:
    (directory / "probe").touch()
    try:
        os.setxattr(directory / "probe", ACL, an_acl(4242))
        os.setxattr(directory / "probe", "user.note", b"x")
    except OSError:
        return False
    finally:
        (directory / "probe").unlink()
    return True


def replaced(path: Path, mode: int = 0o640, owner: Owner = ANYBODY, content: bytes = b"new") -> list[str]:
    said: list[str] = []
    assert replace_files([Placed(str(path.parent), (path.name,), content, mode, owner)], note=said.append)
    assert path.read_bytes() == content
    return said


@ROOT
def test_owner_and_group_of_the_replaced_file_stay(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_text("old")
    os.chown(file, 1234, 4242)
    assert replaced(file) == []
    assert (file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (1234, 4242, 0o640)


@ROOT
def test_an_owner_that_is_asked_for_wins_and_the_other_half_stays(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_text("old")
    os.chown(file, 1234, 4242)
    replaced(file, owner=Owner(group=99))
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 99)
    assert replaced(file, owner=Owner(user=7)) == [], "the same content, another owner"
    assert (file.stat().st_uid, file.stat().st_gid) == (7, 99)
    assert not replace_files([Placed(str(tmp_path), ("c",), b"new", 0o640, Owner(7))])


@ROOT
def test_the_files_of_a_state_folder_stay_with_their_user(tmp_path: Path) -> None:
    replace_file(str(tmp_path / "seen"), b"1", 0o600)
    os.chown(tmp_path / "seen", 1234, 1234)
    replace_file(str(tmp_path / "seen"), b"2", 0o600)
    assert (tmp_path / "seen").stat().st_uid == 1234


def test_acl_and_extended_attributes_stay_and_the_mode_stays_the_upper_bound(tmp_path: Path) -> None:
    if not has_acl(tmp_path):
        pytest.skip("NOT TESTED: this file system has no ACL or no user attributes")
    file = tmp_path / "c"
    file.write_text("old")
    os.setxattr(file, ACL, an_acl(4242))
    os.setxattr(file, "user.note", b"mine")
    assert replaced(file, 0o640) == []
    assert os.getxattr(file, "user.note") == b"mine"
    assert struct.pack("<HHI", 2, 7, 4242) in os.getxattr(file, ACL)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    replaced(file, 0o600, content=b"secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert struct.pack("<HHI", 0x10, 0, 2**32 - 1) in os.getxattr(file, ACL), "the mask lets nobody in"


def test_the_default_acl_of_the_directory_does_not_open_a_file_that_had_none(tmp_path: Path) -> None:
    if not has_acl(tmp_path):
        pytest.skip("NOT TESTED: this file system has no ACL")
    file = tmp_path / "c"
    file.write_text("old")
    os.setxattr(tmp_path, DEFAULT_ACL, an_acl(4242))
    replaced(file, 0o640)
    assert ACL not in os.listxattr(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@ROOT
def test_capabilities_of_the_old_content_are_not_given_to_the_new(tmp_path: Path) -> None:
    file = tmp_path / "tool"
    file.write_text("old")
    try:
        os.setxattr(file, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    except OSError:
        pytest.skip("NOT TESTED: no file capabilities here")
    assert replaced(file, 0o755) == []
    assert "security.capability" not in os.listxattr(file)


@ROOT
def test_what_this_user_may_not_set_is_said_and_the_file_is_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    file = tmp_path / "c"
    file.write_text("old")
    os.chown(file, 0, 4242)
    file.chmod(0o600)  # and it cannot even be read
    script = (
        "import os, sys; os.chdir(sys.argv[1]); from cfgsync_artifacts import Placed, replace_files, Owner, may_give\n"
        "os.setgroups([]); os.setgid(1001); os.setuid(1001)\n"
        "assert replace_files([Placed('', ('c',), b'new', 0o640)], note=print)\n"
        "assert may_give(Owner(1001, 1001)) and not may_give(Owner(0)) and not may_give(Owner(group=4242))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "c: its group 4242, owner 0 could not be kept\n"), (
        done.stderr
    )
    assert file.read_bytes() == b"new"


@ROOT
def test_root_may_give_files_to_anybody_and_an_unknown_number_too() -> None:
    assert may_give(Owner(12345, 54321))


def test_a_link_that_is_replaced_lends_nothing(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "c").symlink_to("target")
    assert replaced(tmp_path / "c") == []
    assert not (tmp_path / "c").is_symlink()
