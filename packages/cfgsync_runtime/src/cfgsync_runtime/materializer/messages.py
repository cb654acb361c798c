"""The messages between a server and the process of its materializer: length-prefixed msgpack, one Struct a frame."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from cfgsync_core import NodeRegistration, NotReady, Version

LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
"""The size of all nodes' files together. The child checks it for a useful message, the server for its safety."""


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Registrations that are new or changed, and identifiers that have left."""

    registrations: list[NodeRegistration]
    gone: list[str]


class Decide(msgspec.Struct, frozen=True, tag=True):
    """Run the materializer on the registrations that were sent; `run` is the number that each part of the answer carries.
    The times are seconds of CLOCK_MONOTONIC, the same clock in both processes: a `Quorum` in the child settles as it would
    in the server."""

    run: int
    version: Version
    first_at: float | None
    changed_at: float | None
    unpublished_at: float | None = None
    dry_run: bool = False


class Documents(msgspec.Struct, frozen=True, tag=True):
    """The documents for this run and each later one: JSON by `namespace/name`."""

    version: Version
    json: dict[str, str]


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The child has loaded the materializer, whose attributes `revision`, `expected_nodes` and `documents` these are."""

    revision: str
    expected_nodes: tuple[str, ...] = ()
    documents: str = ""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The child cannot load it: the two lines of an `InputError`. `at` is type and place of the application's error, and
    `trace` its traceback."""

    what: str
    hint: str
    at: str = ""
    trace: str = ""


class Blobs(msgspec.Struct, frozen=True, tag=True):
    """Pieces of new blobs. Those with the same key are joined in order."""

    run: int
    pieces: list[tuple[str, bytes]]


class Made(msgspec.Struct, frozen=True, tag=True):
    """The result is artifacts; the server has all blobs that the map names."""

    run: int
    map_key: str
    processor_seconds: float
    accepts_shrink: bool = False
    at_once: bool = False


class NotYet(msgspec.Struct, frozen=True, tag=True):
    """The result is `NotReady`."""

    run: int
    answer: NotReady
    processor_seconds: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The materializer raised, or its result cannot be published."""

    run: int
    sentence: str
    at: str = ""
    trace: str = ""


class Judged(msgspec.Struct, frozen=True, tag=True):
    """What of some documents does not hold, as document, path and words."""

    problems: list[tuple[str, str, str]]


ToChild: TypeAlias = Changed | Documents | Decide
Answer: TypeAlias = Blobs | Made | NotYet | Failed
ToServer: TypeAlias = Loaded | Refused | Answer | Judged


def framed(message: msgspec.Struct) -> bytes:
    """The message with its length."""
    encoded = msgspec.msgpack.encode(message)
    return len(encoded).to_bytes(LENGTH_BYTES) + encoded
