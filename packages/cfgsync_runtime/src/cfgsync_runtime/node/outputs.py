"""A plan gives every file a place and raises otherwise; only then does `write` touch the disk.

    plan = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml").plan(payload.files)
    written = write(plan)

An `OutputDirectory` is written as one set, an `ArtifactOutputMap` file by file. An asyncio program calls `write` in a
thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from cfgsync_artifacts import (
    STAGE_SUFFIX,
    CfgsyncError,
    Placed,
    all_hold,
    install,
    is_current,
    legal_places,
    replace_files,
)
from cfgsync_core import IntegrityError
from cfgsync_core.wire import MAX_FILE_BYTES, MAX_FILES, MAX_PAYLOAD_BYTES


class Placeable(Protocol):
    """An `ArtifactFile`, or the bytes of one (`NodeArtifactsPayload.raw_files`)."""

    @property
    def path(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def mode(self) -> str: ...


class Plan(msgspec.Struct, frozen=True):
    """Every file with its place. With `whole`, all files are in one directory and are swapped as one set."""

    files: tuple[Placed, ...]
    whole: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the files can be read, in the payload's order."""
        if self.whole:
            return tuple(os.path.join(file.directory, "current", *file.parts) for file in self.files)
        return tuple(file.target for file in self.files)


class Written(msgspec.Struct, frozen=True):
    """The files on disk. `changed` is False when all of them were already there. `degraded` is True when they come from the
    cache, because no server answered in time."""

    paths: tuple[str, ...]
    changed: bool
    degraded: bool = False


class OutputDirectory(msgspec.Struct, frozen=True):
    """All files below `directory/current`, as one set: a reader sees the old set or the new one, never a mix.

    A payload path must be legal (`legal_places`). `directory` gets two names: the symlink `current`, and `.generations`
    with the current and the previous set.
    """

    directory: str

    def plan(self, files: Iterable[Placeable]) -> Plan:
        """Place every file. Raises `IntegrityError` for an illegal path, no files, or a limit passed."""
        files = _within_limits(files)
        return Plan(tuple(_below(self.directory, files)), whole=True)


class ArtifactOutputMap(msgspec.Struct, frozen=True):
    """Each file in its own place: `ArtifactOutputMap().route("/config.yaml", "/etc/etcd/config.yaml").under("node-data")`.

    Each file is whole at any moment, and all are staged before the first is replaced, but the set is not atomic. Writing
    again finishes an interrupted set.
    """

    routes: dict[str, str] = {}
    rest: str | None = None

    def route(self, path: str, target: str | os.PathLike[str]) -> ArtifactOutputMap:
        """A new map that sends the file with exactly this payload path to `target`, absolute or relative to the current
        directory."""
        return ArtifactOutputMap({**self.routes, path: os.fspath(target)}, self.rest)

    def under(self, directory: str | os.PathLike[str]) -> ArtifactOutputMap:
        """A new map that sends every other file below `directory`, by its payload path, which must be legal
        (`legal_places`). It follows no symlink below `directory`. Without this, an unrouted file is an error."""
        return ArtifactOutputMap(self.routes, os.fspath(directory))

    def plan(self, files: Iterable[Placeable]) -> Plan:
        """Place every file. Raises `IntegrityError` for a file without a target, two files with one target, an illegal
        path, no files, or a limit passed."""
        files = _within_limits(files)
        unrouted = [file for file in files if file.path not in self.routes]
        if unrouted and self.rest is None:
            raise IntegrityError(
                f"file {unrouted[0].path!r} has no target: route it, or name a directory for the rest"
            )
        placed = dict(zip((f.path for f in unrouted), _below(self.rest or "", unrouted), strict=True))
        for file in files:
            if file.path in self.routes:
                placed[file.path] = _routed(file, self.routes[file.path])
        ordered = tuple(placed[file.path] for file in files)
        _refuse_collisions([file.path for file in files], ordered)
        return Plan(ordered)


def write(plan: Plan) -> Written:
    """Write every file of the plan, durably. Raises `DiskError` (or `TargetBusy`, which is one).

    A file that already has the right content and mode, read again from the disk, stays as it is. The remains of a killed
    writer of the same plan are removed in any case.
    """
    changed = install(plan.files[0].directory, plan.files) if plan.whole else replace_files(plan.files)
    return Written(plan.paths, changed)


def in_place(plan: Plan) -> bool:
    """True when every file on disk has the plan's content and mode, and a whole directory holds nothing else. Each file is
    read again; nothing is written."""
    return is_current(plan.files[0].directory, plan.files) if plan.whole else all_hold(plan.files)


def _within_limits(files: Iterable[Placeable]) -> tuple[Placeable, ...]:
    files = tuple(files)
    if not files:
        raise IntegrityError("the payload has no files")
    if len(files) > MAX_FILES:
        raise IntegrityError(f"the payload has {len(files)} files; the limit is {MAX_FILES}")
    total = 0
    seen: set[str] = set()
    for file in files:
        size = len(file.data)
        total += size
        if size > MAX_FILE_BYTES:
            raise IntegrityError(f"file {file.path!r} has {size} bytes; the limit is {MAX_FILE_BYTES}")
        if file.path in seen:
            raise IntegrityError(f"file {file.path!r} is in the payload twice")
        seen.add(file.path)
    if total > MAX_PAYLOAD_BYTES:
        raise IntegrityError(f"the payload has {total} bytes; the limit is {MAX_PAYLOAD_BYTES}")
    return files


def _below(directory: str, files: Sequence[Placeable]) -> list[Placed]:
    try:
        places = legal_places(file.path for file in files)
    except CfgsyncError as error:
        raise IntegrityError(str(error)) from error
    return [Placed(directory, parts, f.data, int(f.mode, 8)) for f, parts in zip(files, places, strict=True)]


def _routed(file: Placeable, target: str) -> Placed:
    directory, name = os.path.split(target)
    if name in ("", ".", ".."):
        raise IntegrityError(f"file {file.path!r} is routed to {target!r}, which is not the name of a file")
    return Placed(directory, (name,), file.data, int(file.mode, 8))


def _refuse_collisions(paths: Sequence[str], files: Sequence[Placed]) -> None:
    """Two files must not have one target, and no target may be below another or be named like a stage, however its
    directory is spelled."""
    taken: dict[str, str] = {}
    for path, file in zip(paths, files, strict=True):
        target = os.path.join(os.path.realpath(file.directory or "."), *file.parts)
        if target.endswith(STAGE_SUFFIX):
            raise IntegrityError(
                f"file {path!r} is routed to {file.target}: cfgsync stages files as *{STAGE_SUFFIX}"
            )
        if target in taken:
            raise IntegrityError(f"files {taken[target]!r} and {path!r} have the same target, {file.target}")
        taken[target] = path
    for target, path in taken.items():
        above = os.path.dirname(target)
        while above != os.path.dirname(above):
            if above in taken:
                raise IntegrityError(
                    f"file {path!r} is routed below {above}, the target of file {taken[above]!r}"
                )
            above = os.path.dirname(above)
