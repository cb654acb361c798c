"""The events of a scope's stream expire the results of their kinds; where some may have been missed, all are asked for again."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import msgspec

from cfgsync_core import Unavailable
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

from ..document import Scope
from ..kinds import read_kinds
from .definition import ConfigUpdate
from .expiry import DEFAULT_KINDS, ResultCache
from .transport import ConfigRefused, ScopeTransport

BUSTED: Final = "config.config.cache_busted.v1"
UPDATED: Final = re.compile(r"config\.([A-Za-z0-9_-]+)\.updated\.v1")
AGAIN_SECONDS: Final = 0.25
AGAIN_AT_MOST: Final = 5.0

log = logging.getLogger("cfgsync.documents")


def adopt_kinds(cache: ResultCache, scope: Scope, kinds: ConfigUpdate) -> None:
    """Use the kinds of the scope; those before stay when the document is not valid."""
    try:
        cache.kinds = DEFAULT_KINDS if kinds.deleted else read_kinds(msgspec.json.encode(kinds.data))
    except msgspec.MsgspecError as error:
        log.warning(
            "the kinds of %s are not valid: %s", scope, error, extra=event("kinds_invalid", scope=str(scope))
        )


@asynccontextmanager
async def following_kinds(transport: ScopeTransport, scope: Scope, cache: ResultCache) -> AsyncIterator[None]:
    """Follow the stream while the context lasts; a broken one is opened again."""
    following = asyncio.create_task(_follow(transport, scope, cache), name=f"cfgsync-kinds {scope}")
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _follow(transport: ScopeTransport, scope: Scope, cache: ResultCache) -> None:
    failures = 0
    while True:
        why = "the stream ended"
        try:
            async with aclosing(transport.events(scope)) as events:
                async for one in events:
                    failures = 0
                    _take(cache, one.name, one.data)
        except Exception as error:  # also an unforeseen one: without this task nothing expires any more
            why = error_text(error)
            if not isinstance(error, Unavailable | ConfigRefused):
                log.exception("the events of kinds in %s", scope)
        cache.versions = {}  # a result from Redis could be from before an event that was missed
        if not failures:
            cache.gap()  # once: what is computed while the stream is away is used for its time
            log.warning(
                "no events of kinds in %s: %s; cached results are asked for again",
                scope,
                why,
                extra=event("kinds_unheard", scope=str(scope)),
            )
        failures += 1
        await asyncio.sleep(random.random() * min(AGAIN_AT_MOST, AGAIN_SECONDS * 2.0 ** min(failures, 10)))


def _take(cache: ResultCache, name: str, data: str) -> None:
    try:
        event = _decode(data)
    except (ValueError, RecursionError):
        event = _Busted()  # all kinds
    if name == BUSTED:
        cache.bust(event.kind)
    elif (updated := UPDATED.fullmatch(name)) is not None:
        cache.bust(updated[1])
    else:
        return
    cache.versions = event.kinds if event.kind is None else {**cache.versions, **event.kinds}


class _Busted(msgspec.Struct):
    kind: str | None = None
    kinds: dict[str, str] = {}


_decode: Final = msgspec.json.Decoder(_Busted).decode
