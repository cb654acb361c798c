"""A path in a payload is legal when it means one file on every system and cannot leave the directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from .errors import InvalidArtifact

MAX_DEPTH = 16
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
_ASCII = re.compile(r"[ -~]+")

_Names: TypeAlias = "dict[str, tuple[str, _Names | None]]"


def legal_places(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Split each path into its components, without one leading `/`.

    Raises `InvalidArtifact` for a component that `_illegal` refuses, for a path that is too deep or too long or is
    another's parent, and for two names in one directory that are equal after case folding (so also for one path twice).
    """
    taken: _Names = {}
    return [_take(taken, path) for path in paths]


def _take(taken: _Names, path: str) -> tuple[str, ...]:
    parts = tuple(path.removeprefix("/").split("/"))
    if len(parts) > MAX_DEPTH:
        raise InvalidArtifact(path, f"illegal path: {len(parts)} components deep, the limit is {MAX_DEPTH}")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidArtifact(path, f"illegal path: longer than {MAX_PATH_BYTES} bytes")
    at = taken
    for depth, name in enumerate(parts, 1):
        if why := _illegal(name):
            raise InvalidArtifact(path, f"illegal path: {why}")
        is_file = depth == len(parts)
        folded = _folded(name)
        held, below = at.get(folded, (name, None))
        if folded not in at:
            below = None if is_file else {}
            at[folded] = (name, below)
        elif is_file or below is None or held != name:
            other = "/".join((*parts[: depth - 1], held))
            raise InvalidArtifact(path, f"illegal path: it collides with {other!r}")
        if below is not None:
            at = below
    return parts


def _illegal(name: str) -> str | None:
    if not name:
        return "a component is empty"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"component {name[:40]!r}… is longer than {MAX_NAME_BYTES} bytes"
    if name[0] in "-~ " or name[-1] in ". ":  # the second holds `.` and `..` too
        return f"component {name!r} begins with -, ~ or a blank, or ends with a dot or a blank"
    if _ASCII.fullmatch(name):
        return None
    from unicodedata import category, is_normalized  # not for the names of most payloads

    for character in name:
        if not (" " <= character <= "~" or category(character)[0] in "LM" or category(character) == "Nd"):
            return (
                f"component {name!r} holds {character!r}, which is not a letter, a digit or printable ASCII"
            )
    return None if is_normalized("NFC", name) else f"component {name!r} is not in Unicode's form NFC"


def _folded(name: str) -> str:
    """Equal for two names that are one on a disk without upper and lower case."""
    if name.isascii():
        return name.lower()
    from unicodedata import normalize

    return normalize("NFD", normalize("NFD", name).casefold())
