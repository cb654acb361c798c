"""A path in a payload is legal when it means the same file on every system and cannot leave the directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from .errors import InvalidArtifact

MAX_DEPTH = 8
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)

_Names: TypeAlias = "dict[str, tuple[str, _Names | None]]"


def legal_places(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Split each path into its components, without one leading `/`.

    Raises `InvalidArtifact` for a component that `_illegal` refuses, for more than 8 components, for a path that is
    another's parent, and for two names in one directory that differ in case only (so also for one path twice).
    """
    taken: _Names = {}
    return [_take(taken, path) for path in paths]


def _take(taken: _Names, path: str) -> tuple[str, ...]:
    parts = tuple(path.removeprefix("/").split("/"))
    if len(parts) > MAX_DEPTH:
        raise InvalidArtifact(path, f"illegal path: {len(parts)} components deep, the limit is {MAX_DEPTH}")
    at = taken
    for depth, name in enumerate(parts, 1):
        if why := _illegal(name):
            raise InvalidArtifact(path, f"illegal path: {why}")
        is_file = depth == len(parts)
        held, below = at.get(name.lower(), (name, None))
        if name.lower() not in at:
            below = None if is_file else {}
            at[name.lower()] = (name, below)
        elif is_file or below is None or held != name:
            other = "/".join((*parts[: depth - 1], held))
            raise InvalidArtifact(path, f"illegal path: it collides with {other!r}")
        if below is not None:
            at = below
    return parts


def _illegal(name: str) -> str | None:
    if not name:
        return "a component is empty"
    if not _NAME.fullmatch(name):
        return f"component {name[:100]!r} is not 1 to 100 of A-Z a-z 0-9 . _ -"
    if name.startswith("-") or name.endswith("."):  # the second holds . and .. too
        return f"component {name!r} begins with - or ends with a dot"
    if _DEVICE.fullmatch(name):
        return f"component {name!r} is a device on Windows"
    return None
