"""What a server and the process of its materializer say to each other: length-prefixed msgpack, one Struct a frame."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from cfgsync_core import NodeRegistration, NotReady, Version

LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
"""What all nodes' files may be together. The child looks so that it can say a sentence, the server because it must."""


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Registrations that are new or other than before, and identifiers that are gone."""

    registrations: list[NodeRegistration]
    gone: list[str]


class Decide(msgspec.Struct, frozen=True, tag=True):
    """Run the materializer on what has been sent. Both times are seconds of CLOCK_MONOTONIC, which is one clock for the
    whole machine: they mean the same in the child, and a `Quorum` there settles when it would have in the server."""

    version: Version
    first_at: float | None
    changed_at: float | None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The materializer is there; `revision` is its attribute."""

    revision: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It cannot be loaded: the two lines of an `InputError`."""

    what: str
    hint: str


class Blobs(msgspec.Struct, frozen=True, tag=True):
    """Pieces of blobs that the child's last answer did not have. Pieces with the same key are joined in their order."""

    pieces: list[tuple[str, bytes]]


class Made(msgspec.Struct, frozen=True, tag=True):
    """The answer is artifacts: what the map names, whose blobs are all there now."""

    map_key: str
    processor_seconds: float
    accepts_shrink: bool = False


class NotYet(msgspec.Struct, frozen=True, tag=True):
    """The answer is NotReady."""

    answer: NotReady
    processor_seconds: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The materializer raised, or gave what cannot be published."""

    sentence: str
    at: str = ""


ToChild: TypeAlias = Changed | Decide
ToServer: TypeAlias = Loaded | Refused | Blobs | Made | NotYet | Failed


def framed(words: ToChild | ToServer) -> bytes:
    """The words as they travel."""
    encoded = msgspec.msgpack.encode(words)
    return len(encoded).to_bytes(LENGTH_BYTES) + encoded
