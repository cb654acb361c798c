"""What no node would take is a failed run, and not a generation that every node refuses.

The limits are those of the node's side (`node.md`, "Writing"): legal paths, at least one file, at most 1,000 of at most
8 MiB. The words of a NotReady are limited as well: everybody who waits is sent them.
"""

from __future__ import annotations

from cfgsync_artifacts import ArtifactSet, InvalidArtifact, legal_places
from cfgsync_core import InvalidRegistration, NotReady
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
    """Checks each node's own files together with the shared ones. Equal lists of paths are looked at once."""

    def __init__(self, shared: ArtifactSet) -> None:
        self._shared = tuple(file.path for file in shared)
        self._legal: set[tuple[str, ...]] = set()
        _refuse_large("the shared files", shared)

    def check(self, identifier: str, own: ArtifactSet) -> None:
        """Raise `InvalidArtifact` that names the node or the file."""
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
            legal_places(paths)
            self._legal.add(paths)


def within_words(answer: NotReady) -> NotReady:
    """The answer with a reason, conditions and names that can be sent to everybody who waits. Raises
    `TypeError` for words that are no text."""
    if not isinstance(answer.reason, str):
        raise TypeError(f"the reason of a NotReady is text, not {type(answer.reason).__name__}")
    conditions = answer.conditions
    if (
        len(answer.reason) <= MAX_NOT_READY_CHARACTERS
        and len(conditions) <= MAX_CONDITIONS
        and all(
            len(c.missing) <= MAX_NAMES and max(len(c.name), len(c.note)) <= MAX_NOT_READY_CHARACTERS
            for c in conditions
        )
        and _is_encodable(
            "".join((answer.reason, *(word for c in conditions for word in (c.name, c.note, *c.missing))))
        )
    ):
        return answer
    kept = tuple(
        type(c)(
            cut(c.name), c.have, c.need, tuple(cut(name)[:128] for name in c.missing[:MAX_NAMES]), cut(c.note)
        )
        for c in conditions[:MAX_CONDITIONS]
    )
    return NotReady(cut(answer.reason), kept, answer.retry_after)


def cut(text: str) -> str:
    """As much of a text as is sent to every waiting node."""
    return shortened(text, MAX_NOT_READY_CHARACTERS)


def _is_encodable(text: str) -> bool:
    """False for half of a surrogate pair, which a name of a file may hold, and no answer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_large(whose: str, files: ArtifactSet) -> None:
    for file in files:
        if len(file.content) > MAX_FILE_BYTES or len(file.data) > MAX_FILE_BYTES:
            raise InvalidArtifact(file.path, f"{whose}: the file is over {MAX_FILE_BYTES} bytes")
