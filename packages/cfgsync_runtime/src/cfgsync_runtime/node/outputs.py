"""A plan gives every file a place and raises otherwise; only then does `write` touch the disk.

    plan = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml").plan(payload.files)
    written = write(plan)

An `OutputDirectory` is written as one set, an `ArtifactOutputMap` file by file. An asyncio program calls `write` in a
thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from cfgsync_artifacts import (
    KEPT_SETS,
    STAGE_SUFFIX,
    CfgsyncError,
    DirectoryLock,
    Owner,
    Patience,
    Placed,
    all_hold,
    install,
    is_current,
    legal_places,
    replace_files,
)
from cfgsync_core import IntegrityError
from cfgsync_core.wire import MAX_FILE_BYTES, MAX_FILES, MAX_PAYLOAD_BYTES

PATIENCE = 10.0
"""Seconds to wait for another writer of the same place, where nothing else is said."""


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
    keep: int = KEPT_SETS
    lock: DirectoryLock | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the files can be read, in the payload's order."""
        if self.whole:
            return tuple(os.path.join(file.directory, "current", *file.parts) for file in self.files)
        return tuple(file.target for file in self.files)


class Planner(Protocol):
    """The places of files, such as an `OutputDirectory`."""

    def plan(self, files: Iterable[Placeable], /) -> Plan:
        """Place every file. Raises `IntegrityError` when a file has no legal place."""


class Written(msgspec.Struct, frozen=True):
    """The files on disk. `changed` is False when all of them were already there. `degraded` is True when they come from the
    cache, because no server answered in time."""

    paths: tuple[str, ...]
    changed: bool
    degraded: bool = False
    notes: tuple[str, ...] = ()
    """What an operator should know although the files are in place: an owner that was lost, a set that cannot be removed."""


class OutputDirectory(msgspec.Struct, frozen=True):
    """All files below `directory/current`, as one set: a reader sees the old set or the new one, never a mix.

    A payload path must be legal (`legal_places`). `directory` gets two names: the symlink `current`, and `.generations`
    with the current and the previous set.
    """

    directory: str
    keep: int = KEPT_SETS
    owner: Owner = Owner()
    lock: DirectoryLock | None = None
    """The lock of a watcher: it goes along when another directory takes the place of this one."""

    def plan(self, files: Iterable[Placeable]) -> Plan:
        """Place every file. Raises `IntegrityError` for an illegal path, no files, or a limit passed."""
        files = _within_limits(files)
        placed = tuple(_below(self.directory, files, self.owner))
        return Plan(placed, whole=True, keep=self.keep, lock=self.lock)


class ArtifactOutputMap(msgspec.Struct, frozen=True):
    """Each file in its own place: `ArtifactOutputMap().route("/config.yaml", "/etc/etcd/config.yaml").under("node-data")`.

    Each file is whole at any moment, and all are staged before the first is replaced, but the set is not atomic. Writing
    again finishes an interrupted set.
    """

    routes: dict[str, str] = {}
    rest: str | None = None
    owner: Owner = Owner()
    unsplit: tuple[str, ...] = ()
    """`PATH=TARGET` as written: which `=` divides it is known when the payload's paths are."""

    def route(self, path: str, target: str | os.PathLike[str]) -> ArtifactOutputMap:
        """Send the file whose payload path is exactly `path` to `target`, a place that the operator chooses: absolute,
        or relative to the current directory."""
        return msgspec.structs.replace(self, routes={**self.routes, path: os.fspath(target)})

    def under(self, directory: str | os.PathLike[str]) -> ArtifactOutputMap:
        """Send every other file below `directory`, by its payload path, which must be legal (`legal_places`); no
        symlink below `directory` is followed. Without this, a file that is not routed is an error."""
        return msgspec.structs.replace(self, rest=os.fspath(directory))

    def plan(self, files: Iterable[Placeable]) -> Plan:
        """Place every file. Raises `IntegrityError` for a file without a target, two files with one target, an illegal
        path, no files, or a limit passed."""
        files = _within_limits(files)
        routes = {**self.routes, **self._split({file.path for file in files})}
        unrouted = [file for file in files if file.path not in routes]
        if unrouted and self.rest is None:
            raise IntegrityError(
                f"file {unrouted[0].path!r} has no target: route it, or name a directory for the rest"
            )
        placed = dict(
            zip((f.path for f in unrouted), _below(self.rest or "", unrouted, self.owner), strict=True)
        )
        for file in files:
            if file.path in routes:
                placed[file.path] = _routed(file, routes[file.path], self.owner)
        ordered = tuple(placed[file.path] for file in files)
        _refuse_collisions([file.path for file in files], ordered)
        return Plan(ordered)

    def _split(self, paths: set[str]) -> dict[str, str]:
        """Each text of `unsplit` divided behind the longest path that the payload has, with or without its first `/`."""
        split: dict[str, str] = {}
        for text in self.unsplit:
            for at in reversed([at for at, character in enumerate(text) if character == "="]):
                path = next((p for p in (text[:at], text[1:at]) if p in paths), None)
                if path is not None:
                    if path in split:
                        raise IntegrityError(f"file {path!r} is routed twice")
                    split[path] = text[at + 1 :]
                    break
        return split


def write(
    plan: Plan, patience: Patience | None = None, check: Callable[[str], object] | None = None
) -> Written:
    """Bring every file of the plan into place, durably. Raises `DiskError` (or `TargetBusy`, which is one).

    What already has the right content and mode, read again and not taken from a note, is left as it is. What a killed
    writer of the same plan left behind is removed in any case. `check` gets the directory of a staged set before the
    switch to it; what it raises leaves the old set in place. Another writer of the same place is waited for with
    `patience`, 10 s without it.
    """
    notes: list[str] = []
    patience = patience or Patience(time.monotonic() + PATIENCE)
    if plan.lock is not None and plan.lock.follow():
        notes.append(
            f"{plan.lock.target} was moved or replaced: the directory that is there now gets the files"
        )
    if plan.whole:
        target = plan.files[0].directory
        changed = install(target, plan.files, check, keep=plan.keep, patience=patience, note=notes.append)
    else:
        changed = replace_files(plan.files, patience=patience, note=notes.append)
    return Written(plan.paths, changed, notes=tuple(notes))


def in_place(plan: Plan, staged: str = "") -> bool:
    """True when every file on disk has the plan's content and mode, and a whole directory (or the one where it is `staged`) holds
    nothing else. Each file is read again; nothing is written."""
    return is_current(plan.files[0].directory, plan.files, staged) if plan.whole else all_hold(plan.files)


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


def _below(directory: str, files: Sequence[Placeable], owner: Owner) -> list[Placed]:
    try:
        places = legal_places(file.path for file in files)
    except CfgsyncError as error:
        raise IntegrityError(str(error)) from error
    return [
        Placed(directory, tuple(map(_on_disk, parts)), f.data, int(f.mode, 8), owner)
        for f, parts in zip(files, places, strict=True)
    ]


def _on_disk(name: str) -> str:
    """The name that is these UTF-8 bytes on disk, whatever the locale's encoding is."""
    return name if name.isascii() else os.fsdecode(name.encode())


def _routed(file: Placeable, target: str, owner: Owner) -> Placed:
    directory, name = os.path.split(target)
    if name in ("", ".", ".."):
        raise IntegrityError(f"file {file.path!r} is routed to {target!r}, which is not the name of a file")
    return Placed(directory, (name,), file.data, int(file.mode, 8), owner)


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
