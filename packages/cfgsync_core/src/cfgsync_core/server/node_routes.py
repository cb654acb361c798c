"""The routes that a node calls: `/register`, `/node` and `/ack`, with the Structs that describe their bodies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from ..store.contract import Version
from ..wire.acknowledgement import (
    GenerationAcknowledgement,
    StaticAcknowledgement,
    decode_acknowledgement,
)
from ..wire.headers import (
    ACCEPT,
    GENERATION,
    JOIN_TOKEN,
    KEEPALIVE,
    NEXT,
    NEXT_SECRET,
    SIGNATURE,
    TURN,
    VERSION,
    parse_etags,
    parse_keepalive,
    parse_turn,
    parse_wait,
    takes_extended,
)
from ..wire.payload import File
from ..wire.protocol import (
    STATUS,
    Kept,
    Missing,
    NotReady,
    Ready,
    decode_node_request,
    decode_registration,
    encode_missing,
    encode_not_ready,
)
from ..wire.registration import Identifier
from ..wire.source import AcknowledgingSource, FleetSource, NodeConfigSource, PresenceSource, Resolution
from .route import Body, Call, Operation, Reply, Response, Route, refusal

Sign: TypeAlias = Callable[[str, str | None, str], str | None]
"""The text of `Cfgsync-Signature` for this identifier, generation (None: a static source) and digest; None: unsigned."""

Ip = Annotated[
    str, msgspec.Meta(extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
]  # without a zone


class Registration(msgspec.Struct):
    """A node's registration. `metadata` is any JSON value, absent when null."""

    identifier: Identifier
    ip: Ip
    metadata: Any = None


class NodeBody(msgspec.Struct):
    """The node whose files are wanted; a whole registration is accepted too."""

    identifier: Identifier
    ip: Ip | msgspec.UnsetType = msgspec.UNSET


class Payload(msgspec.Struct):
    """What one node gets: node-local files first, then shared ones."""

    schema_version: int
    files: list[File]


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


_SHA256: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_REGISTER: Final = Operation(
    "Register this node; an equal registration changes nothing",
    {
        "202": Response(
            description="registered, durably",
            headers={
                VERSION: _header(
                    "<epoch>.<revision> of the registrations; repeated on /node, no server answers from before it"
                )
            },
        )
    },
    "400 401 403 404 409 413 415 422 503 507",
    Registration,
    headers={KEEPALIVE: "60", JOIN_TOKEN: "cfgsync_0123456789ab_A", NEXT_SECRET: _SHA256},
)
_NODE: Final = Operation(
    "Get this node's files; held while not ready with `Prefer: wait=SECONDS`",
    {
        "200": Response(
            (Payload,),
            "the files",
            {
                "ETag": _header("digest of the file set"),
                GENERATION: _header("<epoch>.<number>; absent from a static source"),
                SIGNATURE: _header("a DSSE envelope in base64, from a server or a bundle that is signed"),
            },
        ),
        "304": Response(
            description=f"this node has these files; without {GENERATION}: it is not its turn, and it keeps what it has",
            headers={NEXT: _header("<epoch>.<number> of the generation for which this node waits its turn")},
        ),
    },
    "400 401 403 404 406 413 415 422 425 500 503",
    NodeBody,
    headers={
        "Prefer": "wait=20",
        "If-None-Match": f'"sha256-{"0" * 64}"',
        ACCEPT: "base64, mode",
        KEEPALIVE: "60",
        TURN: "default; steady",
        GENERATION: "01890a5d-ac96-774b-bcce-b302099a8057.1",
        VERSION: "01890a5d-ac96-774b-bcce-b302099a8057.1",
    },
)
_ACK: Final = Operation(
    "Report that this node has applied a generation, or why it could not",
    {"204": Response(description="recorded; durably, unless the source is static")},
    "400 401 403 404 409 413 415 422 425 503 507",
    GenerationAcknowledgement,
)


def register_route(source: NodeConfigSource, presence: PresenceSource | None = None) -> Route:
    """`POST /register`. With `presence`, a promise is kept, and one without the header withdraws it."""

    async def register(call: Call) -> Reply:
        answer = await source.register(call.value)
        if isinstance(answer, Missing):
            return Reply(STATUS[Missing], (encode_missing(call.value.identifier, answer),))
        if presence is not None:
            await presence.promise(call.value.identifier, parse_keepalive(call.headers.get(KEEPALIVE)))
        return Reply(202, (), {VERSION: str(answer)} if answer.epoch else {})

    return Route("POST", "/register", register, "register", "node", Body(decode_registration), _REGISTER)


def node_route(
    source: NodeConfigSource,
    fleet: FleetSource | None = None,
    presence: PresenceSource | None = None,
    sign: Sign | None = None,
) -> Route:
    """`POST /node`. With `fleet`, an answer is never older than the request's `Cfgsync-Version` and `Cfgsync-Generation`, and
    nodes may take turns.
    With `presence`, a promise is kept. With `sign`, files and what confirms them carry a signature."""

    async def node(call: Call) -> Reply:
        identifier, headers = call.value.identifier, call.headers
        prefer, tags = headers.get("Prefer"), headers.get("If-None-Match")
        wait = parse_wait(prefer) if prefer else 0.0
        etags = parse_etags(tags) if tags else ()
        known = etags[0] if etags else None
        promised = None if presence is None else parse_keepalive(headers.get(KEEPALIVE))
        if presence is not None and promised is not None and not presence.keeps(identifier, promised):
            await presence.promise(identifier, promised)
        answer: Resolution | Kept
        if fleet is None:
            answer = await source.resolve(identifier, known=known, wait=wait)
        else:
            turn = parse_turn(headers.get(TURN))
            version, seen = _version(headers.get(VERSION)), _generation(headers.get(GENERATION))
            answer = await fleet.turn_to(
                identifier, known=known, wait=wait, at_least=version, seen=seen, turn=turn
            )
        applied = {"Preference-Applied": f"wait={wait:g}"} if wait else {}
        if isinstance(answer, Ready):
            payload = answer.payload
            fields = {"ETag": f'"{payload.digest}"', **applied}
            if answer.generation is not None:
                fields[GENERATION] = answer.generation
            if sign is not None and (signature := sign(identifier, answer.generation, payload.digest)):
                fields[SIGNATURE] = signature
            if (payload.digest in etags or "*" in etags) and not answer.again:
                return Reply(304, (), fields)
            if payload.extended is not None and not takes_extended(headers.get(ACCEPT, "")):
                return refusal(
                    406,
                    "not_acceptable",
                    f"file {payload.extended} has a mode or an encoding: send `Cfgsync-Accept: base64, mode`",
                )
            return Reply(STATUS[Ready], payload.chunks, fields)
        if isinstance(answer, Kept):
            return Reply(STATUS[Kept], (), {"ETag": f'"{known}"', NEXT: answer.next, **applied})
        if isinstance(answer, NotReady):
            if answer.retry_after:
                applied["Retry-After"] = str(math.ceil(answer.retry_after))
            return Reply(STATUS[NotReady], (encode_not_ready(identifier, answer),), applied)
        return Reply(STATUS[Missing], (encode_missing(identifier, answer),), applied)

    return Route("POST", "/node", node, "node", "node", Body(decode_node_request), _NODE)


def init_with_node_routes(routes: Sequence[Route]) -> list[Route]:
    """`/node` of these routes under the path that the oldest clients of the original use."""
    replace = msgspec.structs.replace
    old = {"path": "/init-with-node", "operation": replace(_NODE, deprecated=True)}
    return [replace(route, **old) for route in routes if route.path == "/node"]


def ack_route(source: AcknowledgingSource, *, has_generations: bool = True) -> Route:
    """`POST /ack`; without generations their acknowledgements name only a digest."""

    async def ack(call: Call) -> Reply:
        answer = await source.acknowledge(call.value)
        if isinstance(answer, Missing):
            return Reply(STATUS[Missing], (encode_missing(call.value.identifier, answer),))
        if answer is not None:
            return Reply(STATUS[NotReady], (encode_not_ready(call.value.identifier, answer),))
        return Reply(204)

    operation = _ACK if has_generations else msgspec.structs.replace(_ACK, body=StaticAcknowledgement)
    return Route("POST", "/ack", ack, "ack", "node", Body(decode_acknowledgement), operation)


def _version(text: str | None) -> Version | None:
    """The version in `Cfgsync-Version` or `Cfgsync-Generation`; None for any other text."""
    if not text:
        return None
    try:
        return Version.parse(text)
    except ValueError:
        return None


_generation: Final = lru_cache(maxsize=64)(_version)  # the nodes of a fleet name the same one
