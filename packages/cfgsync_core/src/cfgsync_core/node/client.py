"""A client of a cfgsync server for asyncio programs: the same policy as `cfgsync fetch`, over aiohttp."""

from __future__ import annotations

import asyncio
import random as _random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from ..errors import IntegrityError, MaterializationFailed, Unavailable
from ..follow.acceptance import Alarm
from ..follow.timing import INTERVAL, ReaderState
from ..store.contract import NEVER, Version
from ..wire.acknowledgement import Acknowledgement
from ..wire.payload import NodeArtifactsPayload
from ..wire.protocol import Missing, NotReady, Ready
from ..wire.registration import NodeRegistration
from ..wire.source import Resolution
from .aiohttp_transport import SeveralTransports
from .answers import Meaning, Registered, Retry, as_error, read
from .exchange import Done, Exchange, Pause, Send
from .outcomes import AppliedFiles, Current, Fetched, FetchFailed, MissingForGood
from .received_answer import RequestContext
from .requests import PATIENCE, Lost, Request, acknowledge_request, node_request, register_request
from .server_url import ServerUrl
from .trust.server import Trust
from .trust.signature import Verify
from .watch.node_watch import NodeWatch

if TYPE_CHECKING:
    import ssl

    import aiohttp

ANYWHERE: Final = "0.0.0.0"  # an original server requires an address on `/node`, too


class CfgsyncClient:
    """A `NodeConfigSource` on another machine, and `register_and_fetch` for a program that only wants the files.

    `async with CfgsyncClient("http://127.0.0.1:4400") as client: payload = await client.register_and_fetch(registration)`

    `url` may be several, with commas between them, of servers that share a store: when one is lost, or cannot serve, another is
    asked.
    `secret` is the node's own; without one the name stays unbound. `keepalive` promises that this program will be heard of
    again within so many seconds (1 to 3600), for a server with `--ttl`; `watch` promises it by itself. `join_token` lets a new
    name join a server that requires tokens. With `verify` the files must be signed. A `session` that is given is used as it
    is and not closed; else the client opens one that follows no redirect, uses no proxy from the environment, keeps no
    cookie and decompresses nothing. An https server is verified by the authorities of this machine, or by one of: the
    certificates in `ca_file`; the CA, or self-signed certificate, with the `ca_hash` that `cfgsync tls show` prints
    (or one of several, with commas between them); `ssl_context`. Raises `InvalidServerUrl` and `InvalidTrust`, both `ValueError`.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        secret: str | None = None,
        keepalive: int | None = None,
        join_token: str | None = None,
        ca_file: str = "",
        ca_hash: str = "",
        ssl_context: ssl.SSLContext | None = None,
        verify: Verify | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._servers = ServerUrl.parse_several(url).trusting(Trust.parse(ca_file, ca_hash, ssl_context))
        self._transport = SeveralTransports(self._servers, session)
        self._secret = secret
        self._keepalive = keepalive
        self._join_token = join_token
        self._verify = verify
        self._node_request = partial(node_request, secret=secret, keepalive=keepalive)
        self._clock = clock
        self._random = random
        self._version: str | None = None  # the answer to the last registration, repeated on every request

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session that this client opened."""
        await self._transport.close()

    async def register(self, registration: NodeRegistration) -> Version | Missing:
        """Record the registration. `Missing` when the server has files, but none for it; `NEVER` from an original server.
        Raises `Unavailable`; `FetchFailed` (refused, or not taken); `IntegrityError`.
        """
        request = register_request(
            registration,
            self._secret,
            PATIENCE,
            keepalive=self._keepalive,
            join_token=self._join_token,
        )
        meaning = await self._ask(request, RequestContext("/register", registration.identifier))
        match meaning:
            case Registered(version):
                self._version = version
                return _version(version)
            case MissingForGood():
                return Missing(meaning.message)
            case _:
                raise as_error(meaning)

    async def resolve(self, node: NodeRegistration | str, *, wait: float = 0.0) -> Resolution:
        """What this node gets. `wait` asks the server to hold the request for up to so many seconds (at most 30).
        Raises `MaterializationFailed`; `Unavailable`; `FetchFailed` (refused); `IntegrityError`.
        """
        registration = NodeRegistration(node, ANYWHERE) if isinstance(node, str) else node
        request = self._node_request(registration, within=wait + PATIENCE, hold=wait, version=self._version)
        context = RequestContext("/node", registration.identifier, verify=self._verify)
        meaning = await self._ask(request, context)
        match meaning:
            case Fetched():
                return Ready(meaning.payload, meaning.generation)
            case Retry(not_ready=NotReady() as not_ready):
                return not_ready
            case Retry(failed=str() as failed):
                raise MaterializationFailed(failed.removeprefix(MaterializationFailed("").args[0]))
            case MissingForGood():
                return Missing(meaning.message)
            case _:
                raise as_error(meaning)

    async def register_and_fetch(
        self, registration: NodeRegistration, *, wait: float = 300.0
    ) -> NodeArtifactsPayload:
        """Register, wait up to `wait` seconds until the files are ready, return them. Raises `FetchFailed`."""
        return (await self.fetch(registration, wait=wait)).payload

    async def fetch(
        self,
        registration: NodeRegistration,
        *,
        wait: float = 300.0,
        seen: Version | None = None,
        seen_digest: str | None = None,
    ) -> Fetched:
        """As `register_and_fetch`, with the generation. It refuses an answer that is older than `seen`, or has the same
        number and not `seen_digest`."""
        exchange = Exchange(
            registration,
            now=self._clock(),
            wait=wait,
            secret=self._secret,
            seen=seen,
            seen_digest=seen_digest,
            keepalive=self._keepalive,
            join_token=self._join_token,
            verify=self._verify,
            random=self._random,
        )
        while True:
            match exchange.next(self._clock()):
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Send(request):
                    try:
                        answer = await self._transport.send(request)
                    except Lost as error:
                        exchange.lost(self._clock(), str(error), error.hint)
                    else:
                        exchange.answered(self._clock(), answer)
                case Done(Fetched() as fetched):
                    return fetched
                case Done(outcome):
                    assert not isinstance(outcome, Fetched | Current)  # `known` was not given
                    raise FetchFailed(outcome)

    async def acknowledge(self, acknowledgement: Acknowledgement) -> bool:
        """Acknowledge a generation; False, and no exception, for a refusal or no answer: the node goes on."""
        try:
            answer = await self._transport.send(acknowledge_request(acknowledgement, self._secret))
        except Lost:
            return False
        return 200 <= answer.status < 300

    def watch(
        self,
        registration: NodeRegistration,
        apply: Callable[[Fetched], Awaitable[object]],
        *,
        held: AppliedFiles | None = None,
        interval: float = INTERVAL,
        confirmed: Callable[[AppliedFiles], Awaitable[object]] | None = None,
        on_state: Callable[[ReaderState], object] | None = None,
        on_alarm: Callable[[Alarm], object] | None = None,
    ) -> NodeWatch:
        """Keep this node in step: `apply(fetched)` is awaited with each new set of files, and acknowledged.

            async def apply(fetched: Fetched) -> None:
                await asyncio.to_thread(write, outputs.plan(fetched.payload.files))
            async with client.watch(registration, apply) as watch:
                ...                              # watch.state, watch.why, watch.held

        `held` is what is in place already. See `NodeWatch`. Several of them may share one client.
        """
        return NodeWatch(
            registration,
            self._transport.send,
            apply,
            secret=self._secret,
            join_token=self._join_token,
            held=held,
            interval=interval,
            confirmed=confirmed,
            verify=self._verify,
            on_state=on_state,
            on_alarm=on_alarm,
            random=self._random,
        )

    async def _ask(self, request: Request, context: RequestContext) -> Meaning:
        for left in reversed(range(len(self._servers.each))):
            server = self._transport.server
            try:
                answer = await self._transport.send(request)
            except Lost as error:
                if not left:
                    raise Unavailable(f"{server}: {error}") from error
                continue
            if answer.status != 503 or not left:
                return read(answer, context)
        raise AssertionError("unreachable")


def _version(text: str | None) -> Version:
    try:
        return NEVER if text is None else Version.parse(text)
    except ValueError as error:
        raise IntegrityError(f"the server sends no valid version: {error}") from error
