"""The WebSockets of surface one: the present value at once, then each newest one; a slow reader skips to the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from cfgsync_core import Unavailable, Version
from cfgsync_core.server import WebSocket

from ..document import Document, DocumentName, Scope
from ..service.documents import Documents

RETRY_SECONDS: Final = 1.0

State = tuple[Version, Mapping[str, Document | None]]
"""The scope's version, and the documents by name, None for an absent one."""


async def watch(
    documents: Documents, scope: Scope, read: Callable[[], Awaitable[State]], socket: WebSocket
) -> None:
    """Send what `read` gives, and what changed in it after each change of the scope, until the caller or the server ends."""
    closed = asyncio.create_task(_closed(socket))
    sent: dict[str, Version | None] = {}
    try:
        while not closed.done() and not documents.ending:
            changed = documents.news(scope)
            wait: float | None = None
            try:
                await _send_news(await read(), sent, socket)
            except Unavailable as error:
                await socket.send(msgspec.json.encode({"type": "error", "message": str(error)}).decode())
                wait = RETRY_SECONDS
            waiting = asyncio.create_task(changed.wait())
            try:
                await asyncio.wait((waiting, closed), timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
    finally:
        closed.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await closed


async def one(documents: Documents, name: DocumentName) -> State:
    """The state of one document."""
    found = await documents.get(name)
    return await documents.version(name.scope), {name.name: found}


async def all_of(documents: Documents, scope: Scope, namespace: str) -> State:
    """The state of the documents of a namespace."""
    found = await documents.snapshot(scope, namespace)
    return found.version, {document.name.name: document for document in found.documents}


async def _send_news(state: State, sent: dict[str, Version | None], socket: WebSocket) -> None:
    version, found = state
    for name, document in {**dict.fromkeys(sent), **found}.items():
        now = None if document is None else document.version
        if name in sent and sent[name] == now:
            continue
        sent[name] = now
        await socket.send(_frame(name, document, version))


async def _closed(socket: WebSocket) -> None:
    """Return when the caller has closed; what it sends is ignored."""
    while await socket.receive() is not None:
        pass


def _frame(name: str, document: Document | None, version: Version) -> str:
    head = msgspec.json.encode({"type": "config_update", "name": name})[:-1]
    if document is None:
        said = {"revision": version.revision, "epoch": version.epoch, "deleted": True}
        data = b"null"
    else:
        said = {
            "revision": document.revision,
            "epoch": document.version.epoch,
            "updatedAt": document.updated_at,
        }
        data = document.data
    return (head + b',"data":' + data + b"," + msgspec.json.encode(said)[1:]).decode()
