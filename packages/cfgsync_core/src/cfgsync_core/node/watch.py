"""One node that stays in step after its boot: a held `POST /node` is its reader, what it brings is applied whole and
acknowledged, and nothing that a server says or fails to say takes away what is in place.

The rules are the `Reconciler`'s: the same epoch never goes back, one number never has two contents, a retired epoch is
refused, a newer one is taken and said; what is known advances only after a durable apply. The transport, the clock and
the applying are arguments: `cfgsync fetch --watch` carries it over `http.client`, `CfgsyncClient.watch` over aiohttp.
"""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..follow.acceptance import Alarm, Away, Same, Steps, Whole, judge
from ..follow.clock import Clock
from ..follow.reconciler import Reconciler
from ..follow.timing import INTERVAL, ReaderState
from ..follow.view import Ask
from ..store.contract import NEVER, Version
from ..wire.acknowledgement import Acknowledgement
from ..wire.headers import ACCEPT, ACCEPT_EXTENDED, VERSION
from ..wire.protocol import encode_registration
from ..wire.registration import NodeRegistration
from . import answers as answers
from .answers import Again, Meaning, Registered, RequestContext, plain
from .exchange import HOLD, PATIENCE, Lost, Request, is_final, telling
from .outcomes import Current, Fetched, Untrusted

ANSWER_WITHIN: Final = 60.0  # s for a whole answer, beyond what it may be held
Transport: TypeAlias = Callable[[Request], Awaitable[answers.ReceivedAnswer]]
"""Sends one request and returns its answer. Raises `Lost`."""


class AppliedFiles(msgspec.Struct, frozen=True):
    """What is in place: the generation that it was confirmed for last (`NEVER` from a source without any), its digest."""

    version: Version
    digest: str


class NodeWatch:
    """Keeps one node in step while the context lasts, or `run()` does.

        async with NodeWatch(registration, transport, apply, held=held) as watch:
            ...                                  # watch.state, watch.why, watch.held

    `apply(fetched)` brings the files into place, durably on return; what it raises is acknowledged as failed, the old
    files stay, and it is called again with the same files after a growing pause, or with newer ones. It is not called
    while the files are the same. `confirmed(held)` is awaited when a server has confirmed what is in place.
    `held` is what is in place from before (None: nothing), and `told` whether a server was told so; `seen` is the newest
    answer that was ever accepted, when that is known though nothing is held. `registration` may be a function, for an address that is not known yet.
    A server without hints, which does not hold questions, costs at most one `interval` (seconds, ± 10 %).
    """

    def __init__(
        self,
        registration: NodeRegistration | Callable[[], Awaitable[NodeRegistration]],
        transport: Transport,
        apply: Callable[[Fetched], Awaitable[object]],
        *,
        secret: str | None = None,
        held: AppliedFiles | None = None,
        told: bool = True,
        seen: Version | None = None,
        interval: float = INTERVAL,
        name: str = "",
        confirmed: Callable[[AppliedFiles], Awaitable[object]] | None = None,
        on_state: Callable[[ReaderState], object] | None = None,
        on_alarm: Callable[[Alarm], object] | None = None,
        on_failure: Callable[[str], object] | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        name = name or (registration.identifier if isinstance(registration, NodeRegistration) else "node")
        self._view = _NodeView(registration, transport, apply, secret, held, told, seen, interval, confirmed)
        self.reader: Final = Reconciler(
            self._view,
            interval=interval,
            held_reads=True,
            read_within=ANSWER_WITHIN,
            name=name,
            on_state=on_state,
            on_alarm=on_alarm,
            on_failure=on_failure,
            clock=clock,
            random=random,
        )

    @property
    def held(self) -> AppliedFiles | None:
        """What is in place."""
        return self._view.held

    @property
    def state(self) -> ReaderState:
        """How far what is in place can be believed to be the newest."""
        return self.reader.state

    @property
    def why(self) -> str:
        """Why it is not known to be the newest, in words; "" when it is."""
        return self.reader.why

    async def __aenter__(self) -> Self:
        await self.reader.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Stay in step until cancelled."""
        await self.reader.run()

    async def close(self) -> None:
        """Stop. What is being applied is applied to its end."""
        await self.reader.close()


class _NodeView:
    """The node as the `Reconciler` sees it."""

    def __init__(
        self,
        registration: NodeRegistration | Callable[[], Awaitable[NodeRegistration]],
        transport: Transport,
        apply: Callable[[Fetched], Awaitable[object]],
        secret: str | None,
        held: AppliedFiles | None,
        told: bool,
        seen: Version | None,
        interval: float,
        confirmed: Callable[[AppliedFiles], Awaitable[object]] | None,
    ) -> None:
        self.held = held
        self._registration = registration
        self._transport = transport
        self._apply = apply
        self._secret = secret
        self._seen = seen
        self._interval = interval
        self._confirmed = confirmed
        self._identifier = ""
        self._registered = False
        self._version: str | None = None  # what the registration was told, repeated on every question
        self._not_ready = False  # the server said so: the question may be held although nothing is known
        self._failed: Fetched | None = None  # what could not be applied, kept so that it is not sent again
        self._reassure = held is not None and not told  # say what is in place, once it is confirmed
        self._owed: Acknowledgement | None = None
        self._told: Acknowledgement | None = None

    @property
    def known(self) -> Version | None:
        return None if self.held is None else self.held.version

    def same(self, whole: Whole[Fetched]) -> bool:
        return self.held is not None and whole.digest == self.held.digest

    async def read(self, ask: Ask) -> Whole[Fetched] | Same | Away:
        try:
            node = (
                self._registration
                if isinstance(self._registration, NodeRegistration)
                else await self._registration()
            )
            await self._tell()
            if not self._registered:
                meaning = await self._register(node)
                if not isinstance(meaning, Registered):
                    return await self._away(node.identifier, meaning)
            return await self._ask(node, ask)
        except Lost as error:
            self._forgotten()  # idempotent, and a server that restarted may have forgotten everyone
            return Away(str(error))

    async def apply(self, news: Whole[Fetched] | Steps | Same) -> None:
        assert not isinstance(news, Steps)  # a node is never sent any
        if isinstance(news, Same):
            assert self.held is not None  # only what is held can be the same
            self._failed = None  # it is not offered any more
            await self._is_confirmed(AppliedFiles(news.version, self.held.digest))
            return
        fetched = news.content
        identifier = self._identifier
        try:
            await self._apply(fetched)
        except Exception as error:
            self._failed = fetched
            self._owe(identifier, fetched.generation, fetched.digest, "failed", _words(error))
            await self._tell()
            raise
        self._failed = None
        self.held = AppliedFiles(news.version, news.digest)
        self._owe(identifier, fetched.generation, fetched.digest, "applied")
        await self._tell()

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _register(self, node: NodeRegistration) -> Meaning:
        body = encode_registration(node)
        answer = await self._transport(Request("/register", self._headers(), body, PATIENCE, ANSWER_WITHIN))
        meaning = answers.read(answer, RequestContext("/register", node.identifier))
        if isinstance(meaning, Registered):
            self._registered, self._version = True, meaning.version
        return meaning

    async def _ask(self, node: NodeRegistration, ask: Ask) -> Whole[Fetched] | Same | Away:
        self._identifier = node.identifier
        offered = self._failed
        if offered is not None:
            known: str | None = offered.digest
        else:
            known = self.held.digest if self.held is not None and not ask.whole else None
        hold = int(HOLD if self._not_ready else ask.hold)
        headers = {**self._headers(), ACCEPT: ACCEPT_EXTENDED}
        if self._version is not None:
            headers[VERSION] = self._version
        if known is not None:
            headers["If-None-Match"] = f'"{known}"'
        if hold >= 1:
            headers["Prefer"] = f"wait={hold}"
        request = Request("/node", headers, encode_registration(node), hold + PATIENCE, hold + ANSWER_WITHIN)
        floor = self._seen if self.held is None else None  # what is held, the Reconciler judges
        answer = await self._transport(request)
        meaning = answers.read(answer, RequestContext("/node", node.identifier, known, floor))
        self._not_ready = False
        match meaning:
            case Fetched(generation=str() | None as generation, digest=digest):
                if generation is None and self.known not in (None, NEVER):
                    return Away(
                        f"the server answers without a generation, this node has seen {self.known}",
                        self._interval,
                    )
                version = NEVER if generation is None else Version.parse(generation)
                return await self._looked_at(ask, Whole(version, digest, meaning))
            case Current(generation=generation):
                version = self.known or NEVER if generation is None else Version.parse(generation)
                if offered is not None:
                    again = msgspec.structs.replace(offered, generation=generation)
                    return Whole(version, offered.digest, again)
                return await self._looked_at(ask, Same(version))
            case _:
                return await self._away(node.identifier, meaning)

    async def _looked_at(self, ask: Ask, news: Whole[Fetched] | Same) -> Whole[Fetched] | Same:
        """What the Reconciler will refuse is acknowledged as failed, so that the operator sees it in `/status`."""
        judgement = judge(ask.known, self.known, news, lambda: isinstance(news, Whole) and self.same(news))
        if isinstance(judgement, Alarm):
            digest = news.digest if isinstance(news, Whole) else self.held.digest if self.held else None
            self._owe(self._identifier, str(judgement.got), digest, "failed", judgement.sentence)
            await self._tell()
        elif isinstance(news, Same) and news.version == self.known and self.held is not None:
            await self._is_confirmed(self.held)
        return news

    async def _away(self, identifier: str, meaning: Meaning) -> Away:
        if isinstance(meaning, Again):
            if meaning.register:
                self._forgotten()
            self._not_ready = meaning.not_ready is not None and meaning.not_ready.registered
            return Away(meaning.why, meaning.retry_after)
        self._forgotten()
        assert not isinstance(meaning, Registered | Fetched | Current)
        if isinstance(meaning, Untrusted):
            self._owe(identifier, meaning.generation, meaning.digest, "failed", meaning.message)
            await self._tell()
        return Away(meaning.message, self._interval)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers["Authorization"] = f"Bearer {self._secret}"
        return headers

    async def _is_confirmed(self, held: AppliedFiles) -> None:
        if self._confirmed is not None:
            await self._confirmed(held)
        self.held = held
        if self._reassure:
            self._reassure = False
            generation = str(held.version) if held.version != NEVER else None
            self._owe(self._identifier, generation, held.digest, "applied")
            await self._tell()

    def _forgotten(self) -> None:
        """Register again before the next question, and say again what is in place: both may be forgotten (evicted,
        another store), and are nothing new to a server that knows."""
        if self._registered:
            self._registered, self._reassure, self._told = False, self.held is not None, None

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _owe(
        self,
        identifier: str,
        generation: str | None,
        digest: str | None,
        status: Literal["applied", "failed"],
        reason: str | None = None,
    ) -> None:
        """The newest word takes the place of one that could not be told; one that was told is not said again."""
        if generation is None or digest is None:
            return  # a static source, or an original server
        words = Acknowledgement(identifier, generation, digest, status, reason)
        self._owed = words if words != self._told else None
        if status == "failed":  # once what is in place is what is wanted again, it is said
            self._reassure = self.held is not None

    async def _tell(self) -> None:
        """Tell what is owed. What cannot be delivered now is tried with the next contact; what is refused is not."""
        words = self._owed
        if words is None:
            return
        try:
            # a fleet that has applied a change acknowledges it all at once: who gives up soon makes it longer for all
            answer = await self._transport(telling(words, self._secret, PATIENCE))
        except Lost:
            return
        if is_final(answer.status):
            self._owed, self._told = None, words


def _words(error: Exception) -> str:
    return (
        plain(str(error))
        if isinstance(error, CfgsyncError)
        else f"{type(error).__name__}: {plain(str(error))}"
    )
