"""A join token is spent in the commit that binds the name: how often, by which names, until when, and on several servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cfgsync_core import MemoryHints, MemoryStore, NodeRegistration, OutcomeUnknown, RevisionedStore, Version
from cfgsync_core.server.route import Call, Reply, Route
from cfgsync_core.wire.protocol import NodeRequest
from cfgsync_runtime.access.identity import Identities
from cfgsync_runtime.access.tokens.credentials import BUCKET, Binding, Token, credentials
from cfgsync_runtime.access.tokens.tokens import LEEWAY, NewToken, Tokens


class Server:
    """The credentials of one server over a store, and what it has answered 202 to."""

    def __init__(self, store: RevisionedStore, hints: MemoryHints | None, clock: Callable[[], float]) -> None:
        self.held = credentials(store, hints)
        self.tokens = Tokens(self.held, clock)
        self.identities = Identities(self.held, self.tokens, anonymous=False, requires_tokens=True)

    async def register(self, name: str, secret: str | None, token: str | None = None) -> Reply:
        return await self._ask(NodeRegistration(name, "10.0.0.1"), secret, token, 202)

    async def node(self, name: str, secret: str | None) -> Reply:
        return await self._ask(NodeRequest(name), secret, None, 200)

    async def _ask(self, value: Any, secret: str | None, token: str | None, status: int) -> Reply:
        async def handler(call: Call) -> Reply:
            return Reply(status)

        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        if token is not None:
            headers["Cfgsync-Join-Token"] = token
        return await self.identities.answer(
            Route("POST", "/x", handler, "x", "node"), Call(headers, value=value)
        )

    async def token(self, covers: str = "*", **more: Any) -> str:
        return (await self.tokens.create(NewToken(covers=covers, **more)))[0]

    def uses(self) -> list[int]:
        return [one.uses for one in self.held.entries.values() if isinstance(one, Token)]

    def bound(self) -> set[str]:
        return {key for key, one in self.held.entries.items() if isinstance(one, Binding)}


@asynccontextmanager
async def serving(
    store: RevisionedStore | None = None,
    hints: MemoryHints | None = None,
    clock: Callable[[], float] = lambda: 1_000_000.0,
) -> AsyncIterator[Server]:
    server = Server(MemoryStore() if store is None else store, hints, clock)
    await server.held.open()
    try:
        yield server
    finally:
        await server.identities.close()
        await server.held.close()


def said(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(b"".join(reply.chunks))["message"] if reply.status >= 400 else ""


async def test_a_name_is_bound_with_a_token_and_not_without() -> None:
    async with serving() as server:
        status, why = said(await server.register("web-1", "s" * 40))
        assert (status, "requires a join token" in why) == (401, True)
        assert (await server.node("web-1", "s" * 40)).status == 401
        assert server.bound() == set()
        token = await server.token("web-*")
        assert (await server.register("web-1", "s" * 40, token)).status == 202
        assert (await server.node("web-1", "s" * 40)).status == 200
        assert (await server.node("web-1", "t" * 40)).status == 403
        assert said(await server.register("web-2", None, token))[0] == 401, "a token binds a secret"


async def test_a_bound_name_spends_nothing_whether_it_shows_a_token_or_not() -> None:
    async with serving() as server:
        token = await server.token(uses=2)
        for _ in range(5):
            assert (await server.register("a", "s" * 40, token)).status == 202
        assert (await server.register("a", "s" * 40)).status == 202
        assert (await server.register("a", "s" * 40, "nonsense")).status == 202
        assert server.uses() == [1]


async def test_of_fifty_nodes_that_race_for_ten_uses_exactly_ten_join_in_few_commits() -> None:
    store = MemoryStore()
    async with serving(store) as server:
        token = await server.token(uses=10)
        before = (await store.version(BUCKET)).revision
        nodes = [server.register(f"n-{n}", f"secret-of-node-{n:04}", token) for n in range(50)]
        replies = await asyncio.gather(*nodes)
        assert sorted(reply.status for reply in replies) == [202] * 10 + [401] * 40
        assert server.uses() == [0]
        assert len(server.bound()) == 10
        commits = (await store.version(BUCKET)).revision - before
        assert commits <= 2, "all that wait are given their uses in one commit"
        print(f"50 nodes for 10 uses: 10 joined, {commits} commits")


class Slow(MemoryStore):
    """Lets others go first before it commits, as a store on another machine does."""

    async def commit(self, bucket: str, *arguments: Any, **more: Any) -> Version:
        await asyncio.sleep(0)
        return await super().commit(bucket, *arguments, **more)


async def test_two_servers_on_one_store_together_give_no_more_uses_than_there_are() -> None:
    for at in range(20):
        store, hints = Slow(), MemoryHints()
        async with serving(store, hints) as one, serving(store, hints) as other:
            token = await one.token(uses=10)
            names = [f"n-{n}" for n in range(50)]
            asked = [
                (one, other)[n % 2].register(name, f"secret-of-{name}-{at:04}", token)
                for n, name in enumerate(names)
            ]
            replies = await asyncio.gather(*asked)
            joined = {name for name, reply in zip(names, replies, strict=True) if reply.status == 202}
            assert len(joined) == 10
            await one.held.catch_up()
            assert one.bound() == joined
            assert one.uses() == [0]


async def test_of_many_secrets_for_one_name_one_joins_and_one_use_is_spent() -> None:
    async with serving() as server:
        token = await server.token(uses=50)
        replies = await asyncio.gather(
            *(server.register("a", f"secret-number-{n:04}", token) for n in range(50))
        )
        assert sorted(reply.status for reply in replies) == [202] + [409] * 49
        assert server.uses() == [49]


async def test_a_commit_without_an_answer_spends_one_use_when_the_node_comes_again() -> None:
    class NoAnswer(MemoryStore):
        silent = False

        async def commit(self, bucket: str, *arguments: Any, **more: Any) -> Version:
            version = await super().commit(bucket, *arguments, **more)
            if self.silent:
                raise OutcomeUnknown("no answer")
            return version

    store = NoAnswer()
    async with serving(store) as server:
        token = await server.token(uses=3)
        store.silent = True
        with pytest.raises(OutcomeUnknown):
            await server.register("a", "s" * 40, token)
        store.silent = False
        assert (await server.register("a", "s" * 40, token)).status == 202
        assert (await server.register("b", "t" * 40, token)).status == 202
        assert server.uses() == [1]


@pytest.mark.parametrize(
    ("covers", "name", "joins"),
    [
        ("web-*", "web-1", True),
        ("web-*", "xweb-1", False),
        ("web-*", "WEB-1", False),
        ("web-?", "web-10", False),
        ("web-1", "web-1", True),
        ("web-1", "web-1.example", False),
        ("web.1", "web-1", False),
    ],
)
async def test_the_pattern_is_the_whole_name(covers: str, name: str, joins: bool) -> None:
    async with serving() as server:
        status, why = said(await server.register(name, "s" * 40, await server.token(covers)))
        assert status == (202 if joins else 403)
        assert joins or f"is for {covers}, and not for {name}" in why
        assert server.uses() == [0 if joins else 1]


async def test_a_token_ends_by_the_server_s_clock_with_a_tolerance() -> None:
    now = [0.0]
    async with serving(clock=lambda: now[0]) as server:
        token = await server.token(uses=9, ttl=100)
        now[0] = 100 + LEEWAY
        assert (await server.register("a", "s" * 40, token)).status == 202
        now[0] += 1
        status, why = said(await server.register("b", "t" * 40, token))
        assert (status, "ended at 1970-01-01T00:01:40Z" in why) == (401, True)
        assert (await server.register("a", "s" * 40, token)).status == 202, "it has joined"


async def test_a_revoked_token_and_one_that_is_no_join_token_join_nobody() -> None:
    async with serving() as server:
        gone, id, _ = await server.tokens.create(NewToken(covers="*"))
        assert await server.tokens.revoke(id) == [id]
        assert "unknown or revoked" in said(await server.register("a", "s" * 40, gone))[1]
        other, *_ = await server.tokens.create(NewToken("operator", "ana"))
        assert "role operator" in said(await server.register("a", "s" * 40, other))[1]
        token = await server.token()
        for wrong in ("", "x", token[:-1], token + "x", token.upper(), token[:21] + "A" * 43):
            assert (await server.register("a", "s" * 40, wrong)).status == 401, wrong
        assert server.bound() == set()


async def test_a_refused_join_is_a_line_with_its_reason_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        token = await server.token("web-*")
        for name in ("db-1", "db-1", "web-1", "web-2"):
            await server.register(name, f"the-secret-of-{name}", token)
        said = [record.getMessage() for record in caplog.records if "did not join" in record.getMessage()]
        assert [line.partition(":")[0] for line in said] == ["db-1 did not join", "web-2 did not join"]
        assert token not in caplog.text


async def test_a_revocation_is_followed_by_the_other_server() -> None:
    store, hints = MemoryStore(), MemoryHints()
    async with serving(store, hints) as one, serving(store, hints) as other:
        token, id, _ = await one.tokens.create(NewToken(covers="*", uses=9))
        assert (await other.register("a", "s" * 40, token)).status == 202
        await one.tokens.revoke(id)
        assert (await other.register("b", "t" * 40, token)).status == 401


async def test_a_name_with_another_secret_is_taken_with_a_token_that_reclaims_only() -> None:
    async with serving() as server:
        assert (await server.register("db-1", "s" * 40, await server.token())).status == 202
        assert (await server.register("db-1", "t" * 40, await server.token(uses=5))).status == 409
        wrong = await server.token("web-*", reclaim=True)
        assert (await server.register("db-1", "t" * 40, wrong)).status == 403
        assert (await server.node("db-1", "s" * 40)).status == 200
        right = await server.token("db-*", reclaim=True)
        assert (await server.register("db-1", "t" * 40, right)).status == 202
        assert (await server.node("db-1", "s" * 40)).status == 403
        spent = await server.register("db-1", "s" * 40, right)
        assert spent.status == 401
        assert "token create --for 'db-*' --reclaim; then" in hint_of(spent)
        spare = await server.register("db-2", "s" * 40, right)
        assert "token create --for 'db-*'; then" in hint_of(spare), "a name that is free needs no such right"


def hint_of(reply: Reply) -> str:
    return str(json.loads(b"".join(reply.chunks))["hint"])


async def test_of_a_silent_node_the_name_is_free_for_a_token_that_covers_it_and_for_nobody_without() -> None:
    async def silent(identifier: str) -> bool:
        return True

    async with serving() as server:
        assert (await server.register("a", "s" * 40, await server.token())).status == 202
        server.identities.lapsed = silent
        assert (await server.register("a", "t" * 40)).status == 401
        assert (await server.register("a", "t" * 40, await server.token("b-*"))).status == 403
        assert (await server.register("a", "t" * 40, await server.token())).status == 202


async def test_a_node_that_expired_comes_back_with_its_secret_and_one_that_was_evicted_needs_a_token() -> (
    None
):
    async with serving() as server:
        token = await server.token(uses=2)
        for name in ("expired", "evicted"):
            assert (await server.register(name, "s" * 40, token)).status == 202
        with server.identities.evicting("evicted"):
            await server.identities.leave(["expired", "evicted"])
        assert (await server.register("evicted", "s" * 40, token)).status == 401
        assert (await server.register("expired", "t" * 40)).status == 409
        assert (await server.register("expired", "s" * 40)).status == 202
        assert (await server.register("expired", "t" * 40, await server.token())).status == 409, "it is back"


async def test_the_name_of_an_expired_node_is_taken_with_a_token() -> None:
    store = MemoryStore()
    async with serving(store) as server:
        assert (await server.register("a", "s" * 40, await server.token())).status == 202
        await server.identities.leave(["a"])
    async with serving(store) as server:
        assert (await server.register("a", "t" * 40, await server.token())).status == 202
        assert (await server.register("a", "s" * 40)).status == 409


async def test_a_hundred_thousand_takeover_attempts_change_nothing() -> None:
    store = MemoryStore()
    async with serving(store) as server:
        token = await server.token("node-*", uses=100)
        secrets = {f"node-{n}": f"the-secret-of-node-{n:04}" for n in range(100)}
        await asyncio.gather(*(server.register(name, secret, token) for name, secret in secrets.items()))
        spare = await server.token("other-*", uses=9, reclaim=True)
        before = await store.snapshot(BUCKET)
        attempts = changed = 0
        made: list[Callable[[str, str], Awaitable[Reply]]] = [
            lambda name, secret: server.register(name, None),
            lambda name, secret: server.register(name, ""),
            lambda name, secret: server.register(name, secret[:-1]),
            lambda name, secret: server.register(name, secret + "x"),
            lambda name, secret: server.register(name, secret.upper()),
            lambda name, secret: server.register(name, token),
            lambda name, secret: server.register(name, f"another-{attempts}", token),
            lambda name, secret: server.register(name, f"another-{attempts}", spare),
            lambda name, secret: server.register(name.upper(), secret, token),
            lambda name, secret: server.node(name, f"another-{attempts}"),
        ]
        while attempts < 100_000:
            for name, secret in secrets.items():
                for attempt in made:
                    attempts += 1
                    changed += (await attempt(name, secret)).status < 400
            assert changed == 0
        after = await store.snapshot(BUCKET)
        print(f"{attempts:,} takeover attempts: {changed} accepted, store unchanged: {before == after}")
        assert (changed, before) == (0, after)


async def test_an_old_binding_is_read_and_a_new_one_is_written_as_before() -> None:
    store = MemoryStore()
    await store.commit(BUCKET, {"old": b"0" * 64})
    async with serving(store) as server:
        assert server.held.get("old") == Binding("0" * 64)
        await server.register("new", "s" * 40, await server.token())
        entry = await store.get(BUCKET, "new")
        assert entry is not None
        assert len(entry.value) == 64
