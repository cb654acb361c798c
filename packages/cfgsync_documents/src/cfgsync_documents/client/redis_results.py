"""Results that several processes share in Redis. Only speed depends on it: what is stopped, slow or flushed is computed.

A key names scope and kind, and ends in the version of the kind, so a result from before a change, or of another scope, has a
key that is never asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

from ..document import Scope

WITHIN: Final = 0.25
"""Seconds that a result waits for Redis at most."""
PASSED_OVER: Final = 2.0
"""Seconds for which a Redis that did not answer is not asked again."""

log = logging.getLogger("cfgsync.documents")


class SharedResult(NamedTuple):
    """The bytes of a result, and the seconds that it may still be used."""

    data: bytes
    left: float


class RedisResults:
    """Results of a scope at `url`, such as `redis://127.0.0.1:6379/0`. No method raises for a Redis that does not answer."""

    def __init__(self, url: str, scope: Scope) -> None:
        self.scope = scope
        self._redis = redis.asyncio.from_url(url, socket_timeout=WITHIN, socket_connect_timeout=WITHIN)
        self._again_at = 0.0
        self._is_lost = False

    async def close(self) -> None:
        await self._redis.aclose()

    async def get(self, key: str) -> SharedResult | None:
        """The result of a key, None without one."""
        if time.monotonic() < self._again_at:
            return None
        try:
            async with asyncio.timeout(WITHIN), self._redis.pipeline(transaction=True) as both:
                both.get(key)
                both.pttl(key)
                data, left = await both.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return None
        self._answered()
        return SharedResult(data, left / 1000) if data is not None and left > 0 else None

    async def put(self, key: str, data: bytes, left: float) -> None:
        """Keep a result for so many seconds."""
        if time.monotonic() < self._again_at or left < 0.001:
            return
        try:
            async with asyncio.timeout(WITHIN):
                await self._redis.set(key, data, px=int(left * 1000))
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)

    def _lost(self, error: BaseException) -> None:
        self._again_at = time.monotonic() + PASSED_OVER
        if not self._is_lost:
            self._is_lost = True
            log.warning(
                "Redis does not answer (%s): results are computed",
                error_text(error) or type(error).__name__,
                extra=event("redis_lost"),
            )

    def _answered(self) -> None:
        if self._is_lost:
            self._is_lost = False
            log.info("Redis answers again", extra=event("redis_back"))
