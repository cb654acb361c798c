"""`--save FILE`: no token is made for a file that cannot be written, and one that is replaced is not forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cfgsync_runtime.cli.app import run
from cfgsync_runtime.cli.parts.messages import NoAnswer
from cfgsync_runtime.cli.parts.tokens.saved_token import save_token

FIRST, SECOND = "0123456789ab", "ba9876543210"


@pytest.mark.parametrize("command", [["bootstrap"], ["create", "--for", "x"]])
def test_a_file_that_cannot_be_written_is_refused_before_a_server_is_asked(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for place in (
        "/dev/full",
        tmp_path / "pipe",
        tmp_path,
        tmp_path / "file" / "x",
        "x" * 300,
    ):
        assert run(["token", *command, "--server", "http://127.0.0.1:1", "--save", str(place)]) == 8
        what, do = capsys.readouterr().err.splitlines()
        assert what.startswith(f"--save {place}: ")
        assert do.startswith("no token was made: ")


def test_a_file_is_written_for_its_user_alone_and_the_token_that_was_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "ana.tok"
    for id in (FIRST, FIRST, SECOND):
        assert capsys.readouterr().err == ""
        save_token(str(file), f"cfgsync_{id}_{'A' * 43}", id)
        assert file.read_text() == f"cfgsync_{id}_{'A' * 43}\n"
        assert file.stat().st_mode & 0o777 == 0o600
    stays = f"note: {file} held token {FIRST}, which stays valid: cfgsync token revoke {FIRST} ends it\n"
    assert capsys.readouterr().err == stays


def test_a_token_that_was_made_and_cannot_be_kept_is_to_be_revoked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoAnswer) as refused:
        save_token(str(tmp_path / "file" / "x"), "t", FIRST)
    assert refused.value.code == 8
    assert f"cfgsync token revoke {FIRST}" in refused.value.hint
