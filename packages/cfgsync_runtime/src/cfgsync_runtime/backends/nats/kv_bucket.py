"""A KV bucket as anybody may have left it: what it has for each name, and what to put so that it has what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DeliverPolicy, RawStreamMsg

from cfgsync_core import NEVER, Version
from cfgsync_core.store import epoch_ms

REVISION: Final = "Cfgsync-Revision"
EPOCH: Final = "Cfgsync-Epoch"
OPERATION: Final = "KV-Operation"
WITHIN: Final = 2.0


class Held(msgspec.Struct, frozen=True):
    """What the bucket has for one name: `digest` None is a delete marker. A sequence of 0 is nothing at all, and `NEVER` the
    version of what no server of cfgsync can have put."""

    sequence: int = 0
    version: Version = NEVER
    digest: bytes | None = None


class Put(msgspec.Struct, frozen=True):
    """What must replace it: a document, or None for a delete marker, at this version. `is_foreign`: somebody else had put what
    is there."""

    name: str
    version: Version
    data: bytes | None
    over: int
    is_foreign: bool = False


class Mark(NamedTuple):
    """What differs after each write to the bucket by anybody."""

    created: object
    last_sequence: int
    messages: int


def plan(
    wanted: Mapping[str, tuple[int, bytes]], version: Version, held: Mapping[str, Held], epoch: str = ""
) -> list[Put]:
    """What to put, so that the bucket has `wanted` (name → revision and value) of a scope at `version`, which were read after
    `held`. From `epoch` on everything of an older one has been replaced once."""
    puts = []
    for name, (revision, data) in wanted.items():
        now, at = held.get(name, Held()), Version(version.epoch, revision)
        if now.digest != sha256(data).digest() or now.version != at:
            puts.append(Put(name, at, data, now.sequence, _is_foreign(now, at, epoch)))
    for name in held.keys() - wanted.keys():
        now = held[name]
        if now.digest is not None:
            puts.append(Put(name, version, None, now.sequence, _is_foreign(now, version, epoch)))
    return puts


def _is_foreign(now: Held, at: Version, epoch: str) -> bool:
    if not now.sequence:
        return False
    is_of_before = now.version.epoch < at.epoch and now.version.epoch < epoch
    return now.version == NEVER or now.version >= at or is_of_before


async def mark_of(stream: JetStreamContext, bucket: str) -> Mark | None:
    """None without the bucket."""
    try:
        info = await stream.stream_info(f"KV_{bucket}")
    except nats.js.errors.NotFoundError:
        return None
    return Mark(info.created, info.state.last_seq, info.state.messages)


async def read_bucket(client: Client, bucket: str) -> dict[str, Held]:
    """The last message of each name."""
    held: dict[str, Held] = {}
    subject = f"$KV.{bucket}."
    reading = await client.jetstream(timeout=WITHIN).subscribe(
        f"{subject}>", ordered_consumer=True, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT
    )
    try:
        while True:
            message = await reading.next_msg(WITHIN)
            held[message.subject.removeprefix(subject)] = held_of(message, message.metadata.sequence.stream)
            if not message.metadata.num_pending:
                return held
    finally:
        await reading.unsubscribe()


def held_of(message: Msg | RawStreamMsg, sequence: int) -> Held:
    headers = message.headers or {}
    try:
        version = Version.parse(f"{headers.get(EPOCH)}.{headers.get(REVISION)}")
        epoch_ms(version.epoch)
    except ValueError:
        version = NEVER
    is_deleted = headers.get(OPERATION) in ("DEL", "PURGE")
    digest = None if is_deleted else sha256(message.data or b"").digest()
    return Held(sequence, version, digest)
