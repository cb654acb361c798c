"""Every file has a place, or nothing is touched: plan first, which raises, then write.

    plan = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml").plan(payload.files)
    written = write(plan)

An `OutputDirectory` is written as one set, an `ArtifactOutputMap` file by file. Only the standard library is used, and
no event loop: a node's command must start at once. A program calls `write` in a thread.
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
    """A file to be placed: an `ArtifactFile`, or the bytes of one (`NodeArtifactsPayload.raw_files`)."""

    @property
    def path(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def mode(self) -> str: ...


class Plan(msgspec.Struct, frozen=True):
    """What `write` will do: every file with its place. With `whole`, all are in one directory and swapped as one."""

    files: tuple[Placed, ...]
    whole: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the files can be read, in the payload's order."""
        if self.whole:
            return tuple(os.path.join(file.directory, "current", *file.parts) for file in self.files)
        return tuple(file.target for file in self.files)


class Written(msgspec.Struct, frozen=True):
    """The files that are in place; `changed` is False when all of them were there already, and nothing was written.
    `degraded` says that they are the remembered ones, since no server gave any in time."""

    paths: tuple[str, ...]
    changed: bool
    degraded: bool = False


class OutputDirectory(msgspec.Struct, frozen=True):
    """All files below `directory/current`, as one set: a reader sees the old set or the new one, never a mix.

    A payload path is split on `/`, without its leading one, and must be legal (`legal_places`). In `directory` there
    will be two names: the symlink `current`, and `.generations` with the current and the previous set.
    """

    directory: str

    def plan(self, files: Iterable[Placeable]) -> Plan:
        """Place every file. Raises `IntegrityError` for an illegal path, no files, or a limit passed."""
        files = _within_limits(files)
        return Plan(tuple(_below(self.directory, files)), whole=True)


class ArtifactOutputMap(msgspec.Struct, frozen=True):
    """Each file in its own place. `route` and `under` return a new map:
    `ArtifactOutputMap().route("/config.yaml", "/etc/etcd/config.yaml").under("node-data")`.

    Each file is whole at any moment, and all are staged before the first is replaced, but no rename spans two places:
    the set is not atomic. Writing again finishes what was interrupted.
    """

    routes: dict[str, str] = {}
    rest: str | None = None

    def route(self, path: str, target: str | os.PathLike[str]) -> ArtifactOutputMap:
        """Send the file whose payload path is exactly `path` to `target`, a place that the operator chooses: absolute,
        or relative to the current directory."""
        return ArtifactOutputMap({**self.routes, path: os.fspath(target)}, self.rest)

    def under(self, directory: str | os.PathLike[str]) -> ArtifactOutputMap:
        """Send every other file below `directory`, by its payload path, which must be legal (`legal_places`); no
        symlink below `directory` is followed. Without this, a file that is not routed is an error."""
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
    """Bring every file of the plan into place, durably. Raises `DiskError` (or `TargetBusy`, which is one).

    What already has the right content and mode, read again and not taken from a note, is left as it is. What a killed
    writer of the same plan left behind is removed in any case.
    """
    changed = install(plan.files[0].directory, plan.files) if plan.whole else replace_files(plan.files)
    return Written(plan.paths, changed)


def in_place(plan: Plan) -> bool:
    """True when what is on disk has the digest of the plan's files: every content and mode is read again and equal,
    and a whole directory holds nothing else. Touches nothing."""
    return is_current(plan.files[0].directory, plan.files) if plan.whole else all_hold(plan.files)


def _within_limits(files: Iterable[Placeable]) -> tuple[Placeable, ...]:
    files = tuple(files)
    if not files:
        raise IntegrityError("the payload has no files")
    if len(files) > MAX_FILES:
        raise IntegrityError(f"the payload has {len(files)} files, at most {MAX_FILES} are taken")
    total = 0
    seen: set[str] = set()
    for file in files:
        size = len(file.data)
        total += size
        if size > MAX_FILE_BYTES:
            raise IntegrityError(f"file {file.path!r} has {size} bytes, at most {MAX_FILE_BYTES} are taken")
        if file.path in seen:
            raise IntegrityError(f"file {file.path!r} is in the payload twice")
        seen.add(file.path)
    if total > MAX_PAYLOAD_BYTES:
        raise IntegrityError(f"the payload has {total} bytes, at most {MAX_PAYLOAD_BYTES} are taken")
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
    """No target twice, none below another, none that is another's stage; whatever the spelling of its directory."""
    taken: dict[str, str] = {}
    for path, file in zip(paths, files, strict=True):
        target = os.path.join(os.path.realpath(file.directory or "."), *file.parts)
        if target.endswith(STAGE_SUFFIX):
            raise IntegrityError(
                f"file {path!r} is sent to {file.target}: names on {STAGE_SUFFIX} are our stages"
            )
        if target in taken:
            raise IntegrityError(f"files {taken[target]!r} and {path!r} have one target, {file.target}")
        taken[target] = path
    for target, path in taken.items():
        above = os.path.dirname(target)
        while above != os.path.dirname(above):
            if above in taken:
                raise IntegrityError(
                    f"file {path!r} is sent below {above}, which file {taken[above]!r} will be"
                )
            above = os.path.dirname(above)
