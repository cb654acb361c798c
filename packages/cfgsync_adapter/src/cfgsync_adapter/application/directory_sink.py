"""A sink that writes a directory: readers of `DIR/current` see one whole set of artifacts, or the one before it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cfgsync_artifacts import ArtifactFile, ArtifactSet, Placed, install, legal_places

from .materializer import MaterializedArtifacts

INDEX = "index.txt"


class DirectorySink:
    """Writes artifacts below `DIR/current`: `nodes/<n>/…` for the n-th node in identifier order, `shared/…`, and
    `index.txt`, which lists the identifier of each `nodes/<n>`. (An identifier is never a file name.)

    Raises `InvalidArtifact` for a path that cannot be written in a directory, `DiskError`, `TargetBusy`: the run then
    fails, and `current` does not change.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)

    def persist(self, artifacts: MaterializedArtifacts) -> None:
        """Write all of them, or nothing when they are equal to the last ones."""
        names = sorted(artifacts.nodes)
        index = ArtifactFile(INDEX, "".join(f"{number}\t{name}\n" for number, name in enumerate(names, 1)))
        placed = list(self._place((), [index]))
        for number, name in enumerate(names, 1):
            placed += self._place(("nodes", str(number)), artifacts.nodes[name])
        placed += self._place(("shared",), artifacts.shared)
        install(self._directory, placed)

    def _place(self, below: tuple[str, ...], files: ArtifactSet | list[ArtifactFile]) -> Iterable[Placed]:
        places = legal_places(file.path for file in files)
        for file, parts in zip(files, places, strict=True):
            yield Placed(self._directory, (*below, *parts), file.data, int(file.mode, 8))
