"""What both surfaces share: the name of the writer, how a GET is held, and entity tags."""

from __future__ import annotations

import asyncio
import pwd
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cfgsync_core import InvalidRequest, Version
from cfgsync_core.server import Call
from cfgsync_core.wire import parse_etags, parse_wait

from ..document import Scope, Writer
from ..service.documents import Documents

MAX_BODY: Final = 1_153_434
"""1.1 MiB: a document that is all escapes is larger on the wire than in the store."""

T = TypeVar("T")


def writer_of(call: Call) -> Writer:
    """What a document's `by` names: the token, the user at the other end of the admin socket, or the role."""
    address = call.caller_address
    if call.principal.name:
        return Writer(call.principal.name, address)
    if call.peer is None:
        return Writer(call.principal.role, address)
    try:
        return Writer(pwd.getpwuid(call.peer).pw_name, address)
    except KeyError:
        return Writer(f"user {call.peer}", address)


def is_known(call: Call, tag: object) -> bool:
    """Whether `If-None-Match` has this tag."""
    given = call.headers.get("If-None-Match")
    if given is None:
        return False
    known = parse_etags(given)
    return str(tag) in known or "*" in known


def tagged(version: Version) -> dict[str, str]:
    """The headers of a read."""
    return {"ETag": f'"{version}"', "Cache-Control": "no-cache"}


def refuse_misplaced(call: Call, *, in_query: bool, has_body: bool) -> None:
    """A precondition of a write of surface two is never ignored: raises `InvalidRequest` where this call would not look."""
    for header in ("If-Match", "If-None-Match"):
        if header in call.headers:
            raise InvalidRequest(
                400, f"{header}: a write here takes expectedVersion (/api/v1/config takes {header})"
            )
    if "expectedVersion" in call.query and not in_query:
        raise InvalidRequest(
            400,
            "expectedVersion in the query is for DELETE of a document: PUT, commit and rollback have it in the body",
        )
    if not has_body and (
        call.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in call.headers
    ):
        raise InvalidRequest(400, "DELETE takes no body: expectedVersion belongs in the query")


async def newest(
    documents: Documents,
    scope: Scope,
    call: Call,
    read: Callable[[], Awaitable[T]],
    is_news: Callable[[T], bool],
) -> T:
    """What `read` gives; when that is no news for the caller, what it gives after the next changes of the scope, for as
    long as the caller prefers to wait."""
    wait = parse_wait(call.headers.get("Prefer", ""))
    if not wait:
        return await read()
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    while True:
        changed = documents.news(scope)
        found = await read()
        if is_news(found) or documents.ending or loop.time() >= until:
            return found
        try:
            async with asyncio.timeout_at(until):
                await changed.wait()
        except TimeoutError:
            pass
