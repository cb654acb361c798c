"""The loop that keeps a view in step with its source: it reads at intervals, after hints and after a reconnection.
A hint can wake it, never mislead it.

`acceptance` decides whether what was read may be applied, `timing` when to read next; this loop does the reading, one
read at a time.

    view = BucketView(store, "registrations", holder)
    async with Reconciler(view, subscribe=lambda: hints.subscribe("registrations")) as reader:
        await reader.read_once()                        # a read that began after this call has been applied
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections.abc import Callable
from typing import Final, Generic, Self, TypeVar

from ..errors import Unavailable
from ..text import error_text
from .acceptance import Accept, Alarm, Away, Confirmed, ReadAgain, Same, Steps, Whole, judge
from .clock import Clock, wait_for, within
from .hint_listener import HintListener, Subscribe
from .timing import INTERVAL, Freshness, ReaderState
from .view import Ask, View

C = TypeVar("C")

READ_WITHIN: Final = 60.0  # s for one read, beyond what it may be held

log = logging.getLogger("cfgsync.reconcile")


class Reconciler(Generic[C]):
    """Keeps `view` in step while the context lasts (or `run()` does), by reading every `interval` seconds ± 10 %, after
    hints, and after the subscription to hints was broken.

    `on_change(news)` is called with each Whole or Steps after it was applied, once per distinct value, in order, one at a
    time; `on_state(state)` when the state changes; `on_alarm(alarm)` when what was read must not be applied;
    `on_failure(why)` when a read or its application failed. The last two are called after it was logged. What a callback
    raises is logged and stops nothing. `held_reads`: the source holds a read until there is news. `resets`: what the source
    has is applied also after its history was lost (see `judge`). `name` is for the log.
    """

    def __init__(
        self,
        view: View[C],
        *,
        subscribe: Subscribe | None = None,
        interval: float = INTERVAL,
        held_reads: bool = False,
        resets: bool = False,
        read_within: float = READ_WITHIN,
        name: str = "the view",
        on_change: Callable[[Whole[C] | Steps], object] | None = None,
        on_state: Callable[[ReaderState], object] | None = None,
        on_alarm: Callable[[Alarm], object] | None = None,
        on_failure: Callable[[str], object] | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._view = view
        self._subscribe = subscribe
        self._interval = interval
        self._resets = resets
        self._read_within = read_within
        self._name = name
        self._ended = f"{name} is not followed any more"
        self._on_change = on_change
        self._on_state = on_state
        self._on_alarm = on_alarm
        self._on_failure = on_failure
        self._given_clock = clock
        self._random = random
        self._fresh = Freshness(
            interval=interval, holds=view.known is not None, held_reads=held_reads, random=random
        )
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._last_state: ReaderState = ReaderState.NEW
        self._last_digest: str | None = None
        self._failing = ""
        self._over = False
        self.alarm: Alarm | None = None
        """What is wrong with the source, until a read is accepted again."""
        self.reads = 0

    @property
    def state(self) -> ReaderState:
        """How current the view is."""
        return self._fresh.state(self._now())

    @property
    def why(self) -> str:
        """Why the state is not CURRENT, in words; "" when it is."""
        return self._fresh.why

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name=f"cfgsync-reconcile {self._name}")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading, after the application that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def hint(self, why: str = "a hint came") -> None:
        """Read sooner: a hint came, or a connection is back."""
        self._fresh.hinted(self._now(), why)
        self._report_state()
        self._wake.set()

    async def read_once(self) -> None:
        """Return when a read that began after this call has been applied; calls share one. Raises `Unavailable`."""
        if self._over:
            raise Unavailable(self._ended)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        self._fresh.hinted(self._now(), "")
        self._wake.set()
        await future

    async def run(self) -> None:
        """Keep the view in step until cancelled: subscribe first, then read."""
        listening: asyncio.Task[None] | None = None
        try:
            if self._subscribe is not None:
                listener = HintListener(
                    self._subscribe,
                    self.hint,
                    interval=self._interval,
                    clock=self._clock,
                    random=self._random,
                    name=self._name,
                )
                listening = asyncio.create_task(listener.run())
                await listener.subscribed()
            while True:
                self._wake.clear()
                due = self._fresh.due_in(self._now())
                if due > 0:
                    await wait_for(self._wake, due, self._clock)
                    self._report_state()  # the time to live may be over
                else:
                    await self._read()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            self._over = True
            self._answer_waiters(self._waiters, Unavailable(self._ended))

    # ── one read ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self) -> None:
        asked = self._view.known
        waiters, self._waiters = self._waiters, []
        ask = Ask(asked, self._fresh.whole or asked is None, self._fresh.hold)
        self._fresh.began(self._now())
        self._report_state()
        self.reads += 1
        try:
            answer = await within(ask.hold + self._read_within, self._view.read(ask), self._clock)
        except Exception as error:
            answer = Away(error_text(error))
        except asyncio.CancelledError:
            self._waiters += waiters
            raise
        if isinstance(answer, Away):
            self._failed(answer, waiters)
            return
        judgement = judge(
            asked,
            self._view.known,
            answer,
            lambda: isinstance(answer, Whole) and self._view.same(answer),
            resets=self._resets,
        )
        match judgement:
            case Accept(news, notice):
                await self._accept(news, notice, waiters)
            case Confirmed():
                self._confirmed(False, waiters)
            case ReadAgain(whole, why):
                self._fresh.must_read_again(self._now(), why, whole=whole)
                self._waiters += waiters  # they wait for the next read
            case Alarm():
                self._refused(judgement, waiters)
        self._report_state()

    async def _accept(
        self, news: Whole[C] | Steps | Same, notice: str, waiters: list[asyncio.Future[None]]
    ) -> None:
        applying = asyncio.ensure_future(self._view.apply(news))
        try:
            await asyncio.shield(applying)
        except asyncio.CancelledError:
            await asyncio.gather(applying, return_exceptions=True)
            raise
        except Exception as error:
            self._failed(Away(f"what was read could not be applied: {error_text(error)}"), waiters)
            return
        if notice:
            log.warning("%s: %s", self._name, notice)
        self._confirmed(not isinstance(news, Same), waiters)
        if not isinstance(news, Same):
            self._report_change(news)

    # ── its result ────────────────────────────────────────────────────────────────────────────────────────────

    def _confirmed(self, changed: bool, waiters: list[asyncio.Future[None]]) -> None:
        self._fresh.confirmed(self._now(), changed)
        if self._failing or self.alarm is not None:
            log.info("%s: in step again", self._name)
        self._failing, self.alarm = "", None
        self._answer_waiters(waiters)

    def _refused(self, alarm: Alarm, waiters: list[asyncio.Future[None]]) -> None:
        if alarm != self.alarm:
            log.error("%s: %s", self._name, alarm.sentence)
        self.alarm = alarm
        self._fresh.refused(self._now(), alarm.sentence)
        self._call(self._on_alarm, alarm)
        self._answer_waiters(waiters)

    def _failed(self, away: Away, waiters: list[asyncio.Future[None]]) -> None:
        if away.why != self._failing:
            log.warning("%s: %s", self._name, away.why)
        self._failing = away.why
        self._fresh.failed(self._now(), away.why, away.retry_after)
        self._call(self._on_failure, away.why)
        self._report_state()
        self._answer_waiters(waiters, Unavailable(away.why))

    def _answer_waiters(self, waiters: list[asyncio.Future[None]], error: Exception | None = None) -> None:
        for future in waiters:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _report_change(self, news: Whole[C] | Steps) -> None:
        digest = news.digest if isinstance(news, Whole) else None
        if digest is None or digest != self._last_digest:
            self._call(self._on_change, news)
        self._last_digest = digest

    def _report_state(self) -> None:
        state = self.state
        if state is not self._last_state:
            self._last_state = state
            self._call(self._on_state, state)

    def _call(self, callback: Callable[..., object] | None, value: object) -> None:
        if callback is None:
            return
        try:
            callback(value)
        except Exception:  # the next value is delivered all the same
            log.exception("%s: a callback failed", self._name)

    @property
    def _clock(self) -> Clock:
        return self._given_clock if self._given_clock is not None else asyncio.get_running_loop()

    def _now(self) -> float:
        return self._clock.time()
