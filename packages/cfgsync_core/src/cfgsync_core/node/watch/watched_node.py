"""A watching node's requests and what follows from their answers: a held read, an apply, an acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Final

import msgspec

from cfgsync_artifacts import CfgsyncError

from ...follow.acceptance import Alarm, Away, Same, Steps, Whole, judge
from ...follow.view import Ask
from ...store.contract import NEVER, Version
from ...text import plain
from ...wire.registration import NodeRegistration
from ..acknowledger import Acknowledger, Transport
from ..answers import Meaning, Registered, Retry, read
from ..hold import NOTICED, SHORTEST, Hold
from ..outcomes import AppliedFiles, Current, Fetched, Untrusted
from ..received_answer import RequestContext
from ..requests import HOLD, Lost, node_request, promise_of, register_request
from ..trust.signature import Verify
from .interruptible import unless
from .turn import NodeTurn

ANSWER_WITHIN: Final = 60.0  # s for a whole answer, beyond what it may be held


@dataclass(eq=False)
class WatchedNode:
    """The node as a View; `NodeWatch` says what its parts are."""

    registration: NodeRegistration | Callable[[], Awaitable[NodeRegistration]]
    transport: Transport
    write: Callable[[Fetched], Awaitable[object]]
    secret: str | None = field(repr=False)
    join_token: str | None = field(repr=False)
    held: AppliedFiles | None
    told: InitVar[bool]
    seen: Version | None
    interval: float
    confirmed: Callable[[AppliedFiles], Awaitable[object]] | None
    is_used: Callable[[str], bool]
    inspect: Callable[[], Awaitable[Sequence[str]]] | None
    name: str = ""
    """The identifier, where a failure may have to be reported before the first request."""
    verify: Verify | None = None
    turn: NodeTurn | None = None

    def __post_init__(self, told: bool) -> None:
        repeat, group = self.held is not None and not told, None if self.turn is None else self.turn.group
        self._acknowledger = Acknowledger(self.transport, self.secret, repeat, group)
        self._promise = promise_of(self.interval)
        self._request = partial(node_request, secret=self.secret, keepalive=self._promise)
        self._drifted: tuple[str, ...] = ()
        self._identifier = ""
        self._registered = False
        self._last: NodeRegistration | None = None
        self._hold = Hold(HOLD, is_first=False)
        self._newest = max(
            self.known or NEVER, self.seen or NEVER
        )  # of what servers have, also if it was refused
        self._version: str | None = None  # the answer to the registration, repeated on every request
        self._acknowledges = True  # an original server takes no acknowledgement
        self._asked_turn: str | None = None  # of the request under way
        self._is_stale = asyncio.Event()  # set when it is not the node's any more
        self._named: str | None = None  # the digest of the last request
        self.waits_for = ""  # the generation that this node's turn is for, while it waits for it
        self._not_ready = False  # as the server answered: a request may be held although nothing is known
        self._failed: Fetched | None = None  # could not be applied; kept so that it is not sent again

    @property
    def known(self) -> Version | None:
        return None if self.held is None else self.held.version

    def same(self, whole: Whole[Fetched]) -> bool:
        return self.held is not None and whole.digest == self.held.digest

    async def read(self, ask: Ask) -> Whole[Fetched] | Same | Away:
        answer = await self._read(ask)
        if self.inspect is not None and self.held is not None and not isinstance(answer, Whole):
            drifted = tuple(await self.inspect())
            if drifted != self._drifted:
                self._drifted = drifted
                await self._report_applied()
        return answer

    async def acknowledge(self, over: Transport, failure: str | None = None) -> None:
        held, identifier = self.held, self._identifier or self.name
        if held is None:
            return
        if failure is None or (self.turn is not None and self.turn.went_back_from is not None):
            # without an identifier, the first answer of a server repeats it; what was refused is reported before all else
            await self._report_applied(over)
        elif identifier:
            await self._report_failure(identifier, held.generation, held.digest, failure, over)

    def turn_has_changed(self) -> None:
        if self._turn_header() != self._asked_turn:
            self._is_stale.set()

    async def _read(self, ask: Ask) -> Whole[Fetched] | Same | Away:
        try:
            given = self.registration
            node = given if isinstance(given, NodeRegistration) else await given()
            await self._acknowledger.send()
            if node != self._last:
                self._forgotten()  # its address has changed
                self._last = node
            if not self._registered:
                meaning = await self._register(node)
                if not isinstance(meaning, Registered):
                    return await self._away(node.identifier, meaning)
            return await self._ask(node, ask)
        except Lost as error:
            self._forgotten()  # a server that restarted may have forgotten the node
            return Away(str(error))

    async def apply(self, news: Whole[Fetched] | Steps | Same) -> None:
        assert not isinstance(news, Steps)  # a node gets none
        if isinstance(news, Same):
            assert self.held is not None  # else there is nothing to be the same as
            self._failed = None
            is_held = self._named == self.held.digest  # else the node has refused them, or taken them back
            await self._is_confirmed(AppliedFiles(news.version, self.held.digest) if is_held else self.held)
            return
        fetched = news.content
        identifier = self._identifier
        try:
            await self.write(fetched)
        except Exception as error:
            self._failed = fetched
            why = error.for_others if isinstance(error, CfgsyncError) else f"{type(error).__name__}: {error}"
            await self._report_failure(identifier, fetched.generation, fetched.to_acknowledge, plain(why))
            raise
        self._failed = None
        if self.turn is None or not self.turn.has_refused(news.digest):
            self.held = AppliedFiles(news.version, news.digest)
        self._drifted = ()
        await self._report_applied()

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _register(self, node: NodeRegistration) -> Meaning:
        request = register_request(
            node, self.secret, ANSWER_WITHIN, keepalive=self._promise, join_token=self.join_token
        )
        answer = await self.transport(request)
        meaning = read(answer, RequestContext("/register", node.identifier))
        if isinstance(meaning, Registered):
            self._registered, self._version = True, meaning.version
        return meaning

    async def _ask(self, node: NodeRegistration, ask: Ask) -> Whole[Fetched] | Same | Away:
        self._identifier = node.identifier
        offered = self._failed
        if offered is not None:
            known: str | None = offered.digest
        elif self.held is not None and self.turn is not None:
            known = self.turn.named(self.held.digest)
        else:
            known = self.held.digest if self.held is not None and not ask.whole else None
        self._named = known
        floor = self.seen if self.held is None else None  # the Reconciler compares with what is held
        meaning = await self._held(
            node,
            HOLD if self._not_ready else ask.hold,
            RequestContext("/node", node.identifier, known, floor, verify=self.verify),
        )
        self._not_ready = False
        match meaning:
            case Fetched(generation=str() | None as generation, digest=digest):
                if generation is None and self.known not in (None, NEVER):
                    return Away(
                        f"the server answers without a generation, but this node has seen {self.known}",
                        self.interval,
                    )
                self._acknowledges = meaning.to_acknowledge is not None
                self.waits_for = ""
                if digest == known:  # given once more, by an operator: an equal failure is another one
                    self._acknowledger.forget(repeat=self._acknowledger.repeat)
                version = NEVER if generation is None else Version.parse(generation)
                return await self._judged(ask, Whole(version, digest, meaning))
            case Current(generation=generation, signature=signature):
                self._acknowledges = True
                # the files may have been taken back meanwhile, and their version then went down
                version = ask.known or NEVER if generation is None else Version.parse(generation)
                self.waits_for = meaning.waits_for
                if offered is not None and not self.waits_for:
                    again = msgspec.structs.replace(offered, generation=generation, signature=signature)
                    return Whole(version, offered.digest, again)
                return await self._judged(ask, Same(version))
            case _:
                return await self._away(node.identifier, meaning)

    async def _held(self, node: NodeRegistration, longest: float, context: RequestContext) -> Meaning:
        """The meaning of the answer to a request that may be held. One that a proxy ends is sent again, for a shorter time."""
        clock = asyncio.get_running_loop().time
        turn = self._asked_turn = self._turn_header()
        if turn is not None:
            longest = max(longest, SHORTEST)  # one that is not held would be the question of a start
        while True:
            hold = int(min(longest, self._hold.seconds))
            within = hold + ANSWER_WITHIN
            request = self._request(
                node, within=within, hold=hold, version=self._version, known=context.known,
                seen=self._newest, turn=turn,
            )  # fmt: skip
            asked_at = clock()
            self._is_stale.clear()
            sending = self.transport(request)
            answer = await (sending if turn is None else unless(self._is_stale, sending))
            if answer is None:
                turn = self._asked_turn = self._turn_header()
                continue
            meaning = read(answer, context)
            is_cut = isinstance(meaning, Retry) and meaning.foreign >= 500 and clock() - asked_at >= NOTICED
            if not is_cut or hold <= SHORTEST:
                if hold and not is_cut:
                    self._hold.lasted()
                return meaning
            self._hold.was_cut(hold)

    def _turn_header(self) -> str | None:
        return None if self.turn is None else self.turn.header(is_failing=self._failed is not None)

    async def _judged(self, ask: Ask, news: Whole[Fetched] | Same) -> Whole[Fetched] | Same:
        """Acknowledge what the Reconciler will refuse as failed, so that `/status` shows it."""
        judgement = judge(ask.known, self.known, news, lambda: isinstance(news, Whole) and self.same(news))
        if isinstance(judgement, Alarm):
            digest = news.digest if isinstance(news, Whole) else self.held.digest if self.held else None
            await self._report_failure(self._identifier, str(judgement.got), digest, judgement.sentence)
            return news
        self._newest = max(self._newest, news.version)
        if isinstance(news, Same) and news.version == self.known and self.held is not None:
            await self._is_confirmed(self.held)
        return news

    async def _away(self, identifier: str, meaning: Meaning) -> Away:
        if isinstance(meaning, Retry):
            if meaning.register:
                self._forgotten()
            self._not_ready = meaning.not_ready is not None and meaning.not_ready.registered
            return Away(meaning.why, meaning.retry_after)
        self._forgotten()
        assert not isinstance(meaning, Registered | Fetched | Current)
        if isinstance(meaning, Untrusted):
            await self._report_failure(identifier, meaning.generation, meaning.digest, meaning.message)
        return Away(meaning.message, self.interval)

    async def _is_confirmed(self, held: AppliedFiles) -> None:
        self.held = held  # first: meanwhile the files may be taken back
        if self.confirmed is not None:
            await self.confirmed(held)
        if self._acknowledger.repeat:
            await self._report_applied()

    async def _report_applied(self, over: Transport | None = None) -> None:
        """Report the files in place, or leave it until a server has answered and the program uses them."""
        held, refused = self.held, None if self.turn is None else self.turn.went_back_from
        if refused is not None:
            if identifier := self._identifier or self.name:
                digest = refused.digest if self._acknowledges else None
                await self._report_failure(
                    identifier, refused.generation, digest, refused.why, over, refused.words
                )
        elif held is not None and self._identifier and self.is_used(held.digest):
            self._acknowledger.repeat = False
            digest = held.digest if self._acknowledges else None
            await self._acknowledger.report(
                self._identifier, held.generation, digest, drifted=self._drifted, over=over
            )
        else:
            self._acknowledger.repeat = held is not None

    async def _report_failure(
        self,
        identifier: str,
        generation: str | None,
        digest: str | None,
        failure: str,
        over: Transport | None = None,
        words: str = "",
    ) -> None:
        if await self._acknowledger.report(identifier, generation, digest, failure, over=over, words=words):
            # report the files in place again when a server confirms them again
            self._acknowledger.repeat = self.held is not None

    def _forgotten(self) -> None:
        """Register again before the next request, and report the files in place again: the server may have forgotten both
        (an eviction, another store), and both are idempotent."""
        if self._registered:
            self._registered = False
            self._acknowledger.forget(repeat=self.held is not None)
