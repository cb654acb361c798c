"""Files in place are compared with what was installed: by size, times, inode and mode, and by content when these differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from cfgsync_artifacts import Placed, all_hold
from cfgsync_core import NodeArtifactsPayload

from .memory.state import NodeState
from .outputs import Plan, Planner, in_place

REPAIRS: Final = 2
"""So many repairs of one file are made within `WITHIN` seconds; the next one is not."""

WITHIN: Final = 600.0


class OnDrift(StrEnum):
    """Restore changed files, or only report them."""

    REPAIR = "repair"
    REPORT = "report"


class Changed(msgspec.Struct, frozen=True):
    """A file that is not what was installed: its path in the payload, and its place on disk."""

    path: str
    place: str


_Marks: TypeAlias = "dict[str, tuple[int, ...] | None]"


class InstalledFiles:
    """What was put in place last, with `digest`. `look` and `plan` read the disk: call them in a thread."""

    def __init__(self, outputs: Planner, state: NodeState, digest: str) -> None:
        self._outputs = outputs
        self._state = state
        self.digest = digest
        self._plan: tuple[tuple[str, ...], str | None] | None = None
        self._marks: _Marks = {}
        self._changed: tuple[Changed, ...] = ()
        self._repairs: dict[str, list[float]] = {}

    def replaced(self, digest: str) -> None:
        """Files with this digest were installed; the next look reads them."""
        self.digest, self._plan = digest, None

    def look(self) -> tuple[Changed, ...]:
        """The files that are not what was installed. Nothing when the payload is not remembered: another fetch has
        brought a newer one, or the disk refused it."""
        if self._plan is not None and _marks(*self._plan) == self._marks:
            return self._changed
        if (payload := self._payload()) is None:
            return ()
        plan = self._outputs.plan(payload.raw_files())
        looked_at = plan.paths, os.path.join(plan.files[0].directory, "current") if plan.whole else None
        self._marks = _marks(
            *looked_at
        )  # before the contents are read: a later change is seen by the next look
        self._changed = _changed(plan, [file.path for file in payload.raw_files()])
        self._plan = looked_at
        return self._changed

    def plan(self) -> Plan | None:
        """What was installed, None when it is not remembered."""
        payload = self._payload()
        return None if payload is None else self._outputs.plan(payload.raw_files())

    def may_repair(self, changed: Sequence[Changed], now: float) -> bool:
        """Count a repair of these files, `now` in seconds. False when one of them had too many: it must not be made."""
        for times in self._repairs.values():
            times[:] = [at for at in times if now - at < WITHIN]
        if any(len(self._repairs.get(file.path, ())) >= REPAIRS for file in changed):
            return False
        for file in changed:
            self._repairs.setdefault(file.path, []).append(now)
        return True

    def _payload(self) -> NodeArtifactsPayload | None:
        cached = self._state.cached()
        return None if cached is None or cached.payload.digest != self.digest else cached.payload


def _marks(paths: Sequence[str], current: str | None) -> _Marks:
    """What the system says of each file; of a whole set also its directories, in which another name may appear."""
    looked_at = set(paths)
    if current is not None:
        looked_at.add(current)
        for path in paths:
            while len(path := os.path.dirname(path)) > len(current):
                looked_at.add(path)
    return {path: _mark(path, follow=path == current) for path in looked_at}


def _mark(path: str, follow: bool) -> tuple[int, ...] | None:
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError:
        return None
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, found.st_mode, *times


def _changed(plan: Plan, paths: Sequence[str]) -> tuple[Changed, ...]:
    if in_place(plan):
        return ()
    changed = [
        Changed(path, place)
        for path, place, file in zip(paths, plan.paths, plan.files, strict=True)
        if not all_hold([_seen(file) if plan.whole else file])
    ]
    if not changed:  # a name that is not ours, or the mode of a directory
        current = os.path.join(plan.files[0].directory, "current")
        changed = [
            Changed(place.removeprefix(current) or "/", place) for place in _strange(current, plan.paths)
        ]
    return tuple(changed)


def _seen(file: Placed) -> Placed:
    """The file as it is read, through `current`."""
    return Placed(os.path.join(file.directory, "current"), file.parts, file.content, file.mode, file.owner)


def _strange(current: str, places: Sequence[str]) -> list[str]:
    """Names below `current` that were not installed, or `current` itself."""
    known = set(places)
    for place in places:
        while len(place := os.path.dirname(place)) > len(current):
            known.add(place)
    found = []
    for directory, below, files in os.walk(current):
        found += [path for name in (*below, *files) if (path := os.path.join(directory, name)) not in known]
    return sorted(found) or [current]
