"""A token is read from a file: in an argument every user of the machine could read it."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from typing import Final

from cfgsync_core.text import cause, path_shown

from ...errors import InputError

_TEXT: Final = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")  # what a header can carry (RFC 6750)
_MAX_BYTES: Final = 4_096


def read_token(path: str) -> str:
    """The token in a file, one line of text. Raises `InputError`, which does not show what is in the file."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES).removeprefix(BOM_UTF8).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_file(path, cause(error)) from error
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):  # too long for a path
            raise _no_file(path, cause(error)) from error
        raise InputError(
            f"--token-file {path}: {cause(error)}",
            "put the token there, in a file of mode 0600 that belongs to this user",
        ) from error
    if not _TEXT.fullmatch(text):
        lines = len(text.splitlines())
        what = (
            "it is empty"
            if not lines
            else "there is no token in it"
            if lines == 1
            else f"it has {lines} lines"
        )
        raise InputError(
            f"--token-file {path}: {what}",
            "it holds one line, the token as cfgsync token create has printed it, without quotes",
        )
    return text


def _no_file(path: str, why: str) -> InputError:
    return InputError(
        f"--token-file {path_shown(path)}: {why}",
        "--token-file and CFGSYNC_TOKEN_FILE take a FILE, never the token itself: put the token there, in a file of mode 0600"
        " that belongs to this user",
    )
