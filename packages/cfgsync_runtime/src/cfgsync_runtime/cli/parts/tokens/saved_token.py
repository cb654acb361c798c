"""The file of `--save`: looked at before the token is made, and written when it is."""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from cfgsync_artifacts import DiskError, replace_file
from cfgsync_core.text import cause

from ..messages import NoAnswer, note

DISK: Final = 8
_ID: Final = re.compile(rb"cfgsync_([0-9a-f]{12})_")
_ELSEWHERE: Final = "no token was made: give a file in a directory that this user may write, or - for stdout"


def refuse_unwritable(path: str) -> None:
    """Refuse a place where no file can be written, before a token exists that nobody has. Raises `NoAnswer`."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise NoAnswer(DISK, f"--save {path}: {cause(error)}", _ELSEWHERE) from error
    else:
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            raise NoAnswer(DISK, f"--save {path}: it is there, and is no regular file", _ELSEWHERE)
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise NoAnswer(DISK, f"--save {path}: {above} is no directory", _ELSEWHERE)
    if not os.access(above, os.W_OK | os.X_OK):
        raise NoAnswer(DISK, f"--save {path}: this user may not write in {above}", _ELSEWHERE)


def save_token(path: str, token: str, id: str) -> None:
    """Write the token (0600). Another one that was there stays valid, which is said. Raises `NoAnswer`."""
    before = _token_in(path)
    try:
        replace_file(path, token.encode() + b"\n", 0o600)
    except DiskError as error:
        revoke = f"the token was made and is nowhere: cfgsync token revoke {id} ends it; {error.hint}"
        raise NoAnswer(DISK, str(error), revoke) from error
    if before and before != id:
        note(f"{path} held token {before}, which stays valid: cfgsync token revoke {before} ends it")


def _token_in(path: str) -> str:
    """The id of the token in a file, "" for none."""
    try:
        with open(path, "rb") as file:
            found = _ID.match(file.read(100))
    except OSError:
        return ""
    return found[1].decode() if found else ""
