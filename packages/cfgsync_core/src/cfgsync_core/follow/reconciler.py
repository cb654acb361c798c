"""The one loop that keeps a view in step with its source: it reads when it is time, hinted or reconnected, and a hint can
delay it or wake it, never mislead it.

Three small parts: `judging` says whether what was read may be applied, `freshness` when to read and how far the view can
be believed, and this loop carries them, with a single read under way and one dirty bit for what was heard meanwhile.

A node that holds one `POST /node` (the known version is the generation that it saw last, kept by its state directory):

    class NodeView:                                     # a View[NodeArtifactsPayload]
        @property
        def known(self) -> Version | None: ...          # Version(epoch, generation number) of what is in place; None: nothing
        async def read(self, ask: Ask) -> Answer[NodeArtifactsPayload]:
            ...                                         # POST /node, If-None-Match, `Prefer: wait=int(ask.hold)` if that is >= 1
            return Same(Version.parse(generation))      # 304; its generation may be later than the one that is known
            return Whole(Version.parse(generation), digest, payload)   # 200, checked; NEVER when there is no generation
            return Away("not ready: 3 of 5 nodes", retry_after=1.0)    # 425, 5xx, no connection; or raise
        def same(self, whole) -> bool:
            return whole.digest == self.digest
        async def apply(self, news) -> None:            # Whole: write the files, then the state. Same: the state only.
            ...                                         # durable on return; what raises is tried again

    async with Reconciler(NodeView(...), held_reads=True, on_change=restart) as reader:
        ...                                             # reader.state, reader.why, reader.alarm; await reader.read_once()

A server's view of a bucket (`following.BucketView` is the View; `holder` keeps the entries):

    view = BucketView(store, "registrations", holder)
    async with Reconciler(view, subscribe=lambda: hints.subscribe("registrations")) as reader:
        await reader.read_once()                        # a read that began after this call has been applied

In virtual time `clock` is an object with `time()` and `call_later(seconds, callback)`, as an event loop has them.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeAlias, TypeVar

import msgspec

from ..errors import Unavailable
from ..store.contract import Version
from ..text import error_text
from .acceptance import Accept, Alarm, Away, Confirmed, ReadAgain, ReadResult, Same, Steps, Whole, judge
from .timing import BASE, INTERVAL, SETTLE, Freshness, ReaderState

C = TypeVar("C")

READ_WITHIN: Final = 60.0  # s for one read, beyond what it may be held
SUBSCRIBE_WITHIN: Final = 2.0  # s that the first read waits for hints to be subscribed to

Subscribe: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncIterator[None]]]

log = logging.getLogger("cfgsync.reconcile")


class Ask(msgspec.Struct, frozen=True):
    """What a read is to bring: what is new since `known`, or everything if `whole`. The source may hold it up to `hold`
    seconds while there is nothing new (0: answer at once)."""

    known: Version | None
    whole: bool
    hold: float = 0.0


class View(Protocol[C]):
    """What a reader holds, and the way to its source."""

    @property
    def known(self) -> Version | None:
        """The version of what is held and durably applied; None when nothing is."""

    async def read(self, ask: Ask) -> ReadResult[C]:
        """One look at the source. What it raises is an `Away`. It may be cancelled."""

    def same(self, whole: Whole[C]) -> bool:
        """Is this, which claims the version that is held, what is held?"""

    async def apply(self, news: Whole[C] | Steps | Same) -> None:
        """Take the news, durably on return, and only then let `known` be its version. Steps follow on what is held. Never
        cancelled by the loop, and idempotent: after a crash between the two it comes again."""


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """Monotonic seconds and calls that are due later; every event loop is one."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...


class Reconciler(Generic[C]):
    """Keeps `view` in step while the context lasts (or `run()` does), by reading every `interval` seconds ± 10 %, after
    hints, and after `subscribe`'s way was broken.

    `on_change(news)` is called with each Whole or Steps after it was applied, once per distinct value, in order, one at a
    time; `on_state(state)` when the state changes; `on_alarm(alarm)` when what was read must not be applied;
    `on_failure(why)` when a read or its applying came to nothing. The last two after it was logged. What a callback raises is logged and stops nothing. `held_reads`: the source holds a read until there is news. `ttl`: seconds
    without confirmation after which the view is DEGRADED (default: four intervals). `name` is for the log.
    """

    def __init__(
        self,
        view: View[C],
        *,
        subscribe: Subscribe | None = None,
        interval: float = INTERVAL,
        ttl: float | None = None,
        held_reads: bool = False,
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
        self._read_within = read_within
        self._name = name
        self._on_change = on_change
        self._on_state = on_state
        self._on_alarm = on_alarm
        self._on_failure = on_failure
        self._given_clock = clock
        self._random = random
        self._fresh = Freshness(
            interval=interval,
            ttl=ttl,
            holds=view.known is not None,
            held_reads=held_reads,
            random=random,
        )
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._told: ReaderState = ReaderState.NEW
        self._told_digest: str | None = None
        self._failing = ""
        self._over = False
        self.alarm: Alarm | None = None
        """What is wrong with the source, until a read is accepted again."""
        self.reads = self.hints = self.changes = self.failures = self.alarms = 0

    @property
    def state(self) -> ReaderState:
        """Where the view stands now."""
        return self._fresh.state(self._now())

    @property
    def why(self) -> str:
        """Why the view is not CURRENT, in words; "" when it is."""
        return self._fresh.why

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name=f"cfgsync-reconcile {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading. What is being applied is applied to its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self, why: str = "a hint came") -> None:
        """Look sooner: a hint that came by another way, or a connection that is back."""
        self.hints += 1
        self._fresh.hinted(self._now(), why)
        self._tell_state()
        self._wake.set()

    async def read_once(self) -> None:
        """Return when a read that began after this call has ended and what it brought is applied; calls share one.

        Raises `Unavailable` when it came to nothing.
        """
        if self._over:
            raise self._no_more()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        self._fresh.hinted(self._now(), "")
        self._wake.set()
        await future

    async def run(self) -> None:
        """Keep the view in step until cancelled: subscribe first, then read (INV-11)."""
        subscribed = asyncio.Event()
        listener = None
        if self._subscribe is not None:
            listener = asyncio.create_task(self._listen(self._subscribe, subscribed))
        try:
            if listener is not None:
                await self._wait(subscribed, SUBSCRIBE_WITHIN)
            while True:
                self._wake.clear()
                due = self._fresh.due_in(self._now())
                if due > 0:
                    await self._wait(self._wake, due)
                    self._tell_state()  # the time to live may be over
                else:
                    await self._look()
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
            self._over = True
            self._answer_waiters(self._waiters, self._no_more())

    # ── one look ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        asked = self._view.known
        waiters, self._waiters = self._waiters, []
        ask = Ask(asked, self._fresh.whole or asked is None, self._fresh.hold)
        self._fresh.began(self._now())
        self._tell_state()
        self.reads += 1
        try:
            answer = await self._read(ask)
        except Exception as error:
            answer = Away(error_text(error))
        except asyncio.CancelledError:
            self._waiters += waiters
            raise
        if isinstance(answer, Away):
            self._failed(answer, waiters)
            return
        judgement = judge(asked, self._view.known, answer, lambda: _same(self._view, answer))
        match judgement:
            case Accept(news, notice):
                await self._accept(news, notice, waiters)
            case Confirmed():
                self._confirmed(False, waiters)
            case ReadAgain(whole, why):
                self._fresh.looks_again(self._now(), why, whole=whole)
                self._waiters += waiters  # this look is not over
            case Alarm():
                self._refused(judgement, waiters)
        self._tell_state()

    async def _read(self, ask: Ask) -> ReadResult[C]:
        """One read within its time. Raises what it raises; `TimeoutError`."""
        task = asyncio.ensure_future(self._view.read(ask))
        late = False

        def too_late() -> None:
            nonlocal late
            late = task.cancel()

        timer = self._clock.call_later(ask.hold + self._read_within, too_late)
        try:
            return await task
        except asyncio.CancelledError:
            if late:
                raise TimeoutError("no answer in time") from None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        finally:
            timer.cancel()

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
            self._tell_change(news)

    # ── what became of it ────────────────────────────────────────────────────────────────────────────────────────────

    def _confirmed(self, changed: bool, waiters: list[asyncio.Future[None]]) -> None:
        self._fresh.confirmed(self._now(), changed)
        if self._failing or self.alarm is not None:
            log.info("%s is followed again", self._name)
        self._failing, self.alarm = "", None
        self._answer_waiters(waiters)

    def _refused(self, alarm: Alarm, waiters: list[asyncio.Future[None]]) -> None:
        self.alarms += 1
        if alarm != self.alarm:
            log.error("%s: %s", self._name, alarm.sentence)
        self.alarm = alarm
        self._fresh.refused(self._now(), alarm.sentence)
        self._call(self._on_alarm, alarm)
        self._answer_waiters(waiters)

    def _failed(self, away: Away, waiters: list[asyncio.Future[None]]) -> None:
        self.failures += 1
        if away.why != self._failing:
            log.warning("%s: %s", self._name, away.why)
        self._failing = away.why
        self._fresh.failed(self._now(), away.why, away.retry_after)
        self._call(self._on_failure, away.why)
        self._tell_state()
        self._answer_waiters(waiters, Unavailable(away.why))

    def _answer_waiters(self, waiters: list[asyncio.Future[None]], error: Exception | None = None) -> None:
        for future in waiters:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _no_more(self) -> Unavailable:
        return Unavailable(f"{self._name} is not followed any more")

    def _tell_change(self, news: Whole[C] | Steps) -> None:
        digest = news.digest if isinstance(news, Whole) else None
        if digest is None or digest != self._told_digest:
            self.changes += 1
            self._call(self._on_change, news)
        self._told_digest = digest

    def _tell_state(self) -> None:
        state = self.state
        if state is not self._told:
            self._told = state
            self._call(self._on_state, state)

    def _call(self, callback: Callable[..., object] | None, value: object) -> None:
        if callback is None:
            return
        try:
            callback(value)
        except Exception:  # whatever it raises: the next value is told all the same
            log.exception("%s: a callback failed", self._name)

    # ── hints and time ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _listen(self, subscribe: Subscribe, subscribed: asyncio.Event) -> None:
        """Hear hints; a subscription that dies is reopened with back-off, and the source is read when it is back."""
        failures = 0
        while True:
            opened_at = self._now()
            try:
                async with subscribe() as hints:
                    if failures or subscribed.is_set():
                        self.look("hints were not heard for a while")
                    subscribed.set()
                    async for _ in hints:
                        self.look()
                        await self._sleep(SETTLE)  # what comes meanwhile is one
                why = "the subscription ended"
            except Exception as error:
                why = error_text(error)
            subscribed.set()  # there is nothing to wait for: the timer is enough
            failures = 1 if self._now() - opened_at >= self._interval else failures + 1
            if failures == 1:
                log.warning(
                    "%s: no hints (%s); it is read every %g s meanwhile", self._name, why, self._interval
                )
            await self._sleep(self._random() * min(self._interval, BASE * 2.0 ** min(failures, 16)))

    async def _sleep(self, seconds: float) -> None:
        await self._wait(asyncio.Event(), seconds)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until `event` is set, which happens after so many seconds by the clock at the latest."""
        timer = self._clock.call_later(seconds, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()

    @property
    def _clock(self) -> Clock:
        return self._given_clock if self._given_clock is not None else asyncio.get_running_loop()

    def _now(self) -> float:
        return self._clock.time()


def _same(view: View[C], answer: object) -> bool:
    return isinstance(answer, Whole) and view.same(answer)
