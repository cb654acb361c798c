"""Files that a node would refuse make the run fail, so that they never become a generation.

A node refuses illegal paths, an empty set, over 1,000 files, and a file over 8 MiB. The texts of a NotReady are limited,
too, since every waiting node receives them.
"""

from __future__ import annotations

import msgspec

from cfgsync_artifacts import ArtifactSet, DuplicatePath, InvalidArtifact, legal_places
from cfgsync_core import Condition, InvalidRegistration, NotReady
from cfgsync_core.text import shortened
from cfgsync_core.wire import (
    MAX_CONDITIONS,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_NAMES,
    MAX_NOT_READY_CHARACTERS,
    check_identifier,
)


class Deliverable:
    """Checks each node's own files together with the shared ones. Equal lists of paths are checked once."""

    def __init__(self, shared: ArtifactSet) -> None:
        self._shared = tuple(file.path for file in shared)
        self._legal: set[tuple[str, ...]] = set()
        _refuse_large("the shared files", shared)

    def check(self, identifier: str, own: ArtifactSet) -> None:
        """Raise an `InvalidArtifact` that names the node or the file, or `DuplicatePath`."""
        try:
            check_identifier(identifier)
        except InvalidRegistration as error:
            raise InvalidArtifact(identifier, f"no node has this name: {error.why}") from error
        paths = tuple(file.path for file in own) + self._shared
        if not paths:
            raise InvalidArtifact(identifier, "this node is given no files; leave it out, or answer NotReady")
        if len(paths) > MAX_FILES:
            raise InvalidArtifact(identifier, f"this node is given {len(paths)} files, it takes {MAX_FILES}")
        _refuse_large(f"node {identifier}", own)
        if paths not in self._legal:
            for file in own:
                if file.path in self._shared:
                    raise DuplicatePath(file.path, f"node {identifier} has it, and a shared file, too")
            legal_places(paths)
            self._legal.add(paths)


def within_words(answer: NotReady) -> NotReady:
    """The answer, its texts short enough to be sent to every waiting node."""
    kept = tuple(
        Condition(
            cut(c.name), c.have, c.need, tuple(cut(name)[:128] for name in c.missing[:MAX_NAMES]), cut(c.note)
        )
        for c in answer.conditions[:MAX_CONDITIONS]
    )
    return msgspec.structs.replace(answer, reason=cut(answer.reason), conditions=kept)


def cut(text: str) -> str:
    """The start of a text, as it is sent to every waiting node."""
    return shortened(text, MAX_NOT_READY_CHARACTERS)


def _refuse_large(whose: str, files: ArtifactSet) -> None:
    for file in files:
        if len(file.content) > MAX_FILE_BYTES or len(file.data) > MAX_FILE_BYTES:
            raise InvalidArtifact(file.path, f"{whose}: the file is over {MAX_FILE_BYTES} bytes")
