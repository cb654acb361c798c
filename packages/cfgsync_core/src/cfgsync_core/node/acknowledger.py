"""A watching node's acknowledgements: sent once, and again when the server may have forgotten them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from ..wire.acknowledgement import Acknowledgement
from .received_answer import ReceivedAnswer
from .requests import PATIENCE, Lost, Request, acknowledge_request, is_final

Transport: TypeAlias = Callable[[Request], Awaitable[ReceivedAnswer]]
"""Sends one request and returns its answer. Raises `Lost`."""

STALE: Final = 409
FAILURE_AGAIN_AFTER: Final = 30.0
"""Seconds after which an equal failure is sent again: another process of this node, with a state directory of its own, may
have reported the same files as applied."""


class Acknowledger:
    """Sends acknowledgements over `transport`, one at a time and in order. A newer one replaces one that could not be sent;
    an equal one is not sent twice, but for a failure that lasts. `repeat`: report the files in place when a server next
    confirms them. `group` is that of a node that takes turns. `clock` is in seconds."""

    def __init__(
        self,
        transport: Transport,
        secret: str | None,
        repeat: bool,
        group: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.repeat = repeat
        self._transport = transport
        self._secret = secret
        self._group = group
        self._clock = clock
        self._pending: Acknowledgement | None = None
        self._sent: Acknowledgement | None = None
        self._sent_at = 0.0
        self._sending = asyncio.Lock()

    async def report(
        self,
        identifier: str,
        generation: str | None,
        digest: str | None,
        failure: str | None = None,
        drifted: Sequence[str] = (),
        over: Transport | None = None,
        words: str = "",
    ) -> bool:
        """Report the files as applied, or why they failed, with the last `words` of the program. False without a digest: the server is an original one. `over`
        is another transport, for use beside a held request."""
        acknowledgement = Acknowledgement.of(
            identifier, generation, digest, failure, drifted, self._group, words
        )
        if acknowledgement is not None:
            again = failure is not None and self._clock() - self._sent_at >= FAILURE_AGAIN_AFTER
            self._pending = acknowledgement if again or acknowledgement != self._sent else None
        await self.send(over)
        return acknowledgement is not None

    async def send(self, over: Transport | None = None) -> None:
        """Send what is pending. Without an answer it stays pending; after a refusal it does not."""
        async with self._sending:
            await self._send(over)

    async def _send(self, over: Transport | None) -> None:
        acknowledgement = self._pending
        if acknowledgement is None:
            return
        try:
            # a whole fleet acknowledges a change at once, and giving up early would only add requests
            answer = await (over or self._transport)(
                acknowledge_request(acknowledgement, self._secret, PATIENCE)
            )
        except Lost:
            return
        if (
            answer.status == STALE
        ):  # published again since then: report it again under the number of the next answer
            self.repeat = True
            if self._pending is acknowledgement:
                self._pending = None
        elif is_final(answer.status):
            self._sent, self._sent_at = acknowledgement, self._clock()
            if self._pending is acknowledgement:  # nothing newer came during the request
                self._pending = None

    def forget(self, repeat: bool) -> None:
        """The server may have forgotten what was reported (an eviction, another store)."""
        self.repeat, self._sent = repeat, None
