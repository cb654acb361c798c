"""A file that replaces another keeps its owner, group, ACL and extended attributes; what is lost is said, not ignored."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

import msgspec

_ACL = "system.posix_acl_access"
_OF_THE_CONTENT = frozenset({"security.capability", "security.ima", "security.evm"})


class Owner(msgspec.Struct, frozen=True):
    """The user and group that a file is to have, as numbers; -1 leaves what the system gives it."""

    user: int = -1
    group: int = -1

    def fits(self, found: os.stat_result) -> bool:
        return self.user in (-1, found.st_uid) and self.group in (-1, found.st_gid)

    def give(self, fd: int) -> None:
        """Make the open file belong to it. Raises `OSError`."""
        if not self.fits(os.fstat(fd)):
            os.fchown(fd, self.user, self.group)


ANY_OWNER = Owner()


def may_give(owner: Owner) -> bool:
    """True when this process may give a file of its own to `owner`: tried on a file that only it can see."""
    if not hasattr(os, "memfd_create"):
        mine = owner.user in (-1, os.geteuid()) and owner.group in (-1, os.getegid(), *os.getgroups())
        return os.geteuid() == 0 or mine
    fd = os.memfd_create("cfgsync-owner")
    try:
        owner.give(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def keep_attributes(fd: int, old: int, owner: Owner) -> list[str]:
    """Give the new file `fd` what the file `old` (opened by `open_path`) has, but user and group of `owner` where that
    names some. Its mode stays. Returns what could not be kept, such as `owner 0`."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    lost = _keep_extended(fd, f"/proc/self/fd/{old}")
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
        os.fchmod(fd, mode)  # an ACL brings its own
    found = os.fstat(old)
    if owner.group == -1 and not _given(fd, Owner(group=found.st_gid)):
        lost.append(f"group {found.st_gid}")
    if owner.user == -1 and not _given(fd, Owner(user=found.st_uid)):
        lost.append(f"owner {found.st_uid}")
    return lost


def open_path(within: int, name: str) -> int:
    """A descriptor of the file `name` that says what it has, also of a file that this user may not read."""
    flags = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)


def _given(fd: int, owner: Owner) -> bool:
    try:
        owner.give(fd)
    except OSError:
        return False
    return True


def _keep_extended(fd: int, old: str) -> list[str]:
    held, lost = _names(old), []
    for name in sorted(held - _OF_THE_CONTENT):
        try:
            value = os.getxattr(old, name)
            if not _has(fd, name, value):
                os.setxattr(fd, name, value)
        except OSError:
            lost.append("ACL" if name == _ACL else name)
    if _ACL not in held and _ACL in _names(
        fd
    ):  # the directory's default ACL, which the old file did not have
        with suppress(OSError):
            os.removexattr(fd, _ACL)
    return lost


def _names(file: int | str) -> set[str]:
    try:
        return set(os.listxattr(file))
    except (OSError, AttributeError):  # the file system, or the whole system, has none
        return set()


def _has(fd: int, name: str, value: bytes) -> bool:
    try:
        return os.getxattr(fd, name) == value
    except OSError:
        return False
