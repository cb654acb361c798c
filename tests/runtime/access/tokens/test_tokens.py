"""Tokens as a server keeps them: what is stored, what they permit, when they end, and the sessions that they begin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cfgsync_core import BucketSnapshot, InvalidRequest, MemoryStore
from cfgsync_core.server.route import Call, Caller, Reply, Route
from cfgsync_runtime.access.tokens.credentials import BUCKET, credentials
from cfgsync_runtime.access.tokens.tokens import DAY, LEEWAY, SESSION_SECONDS, SESSIONS, NewToken, Tokens

KINDS: tuple[Caller, ...] = ("reader", "writer", "operator")


class Kept(Tokens):
    """Tokens over a memory store, with a clock that is set by hand."""

    def __init__(self, store: MemoryStore) -> None:
        self.now = 1_000_000.0
        self.store = store
        self.held = credentials(store)
        super().__init__(self.held, lambda: self.now)

    async def stored(self) -> dict[str, bytes]:
        cut = await self.store.snapshot(BUCKET)
        assert isinstance(cut, BucketSnapshot)
        return {entry.key: entry.value for entry in cut.entries}


@pytest.fixture
async def tokens() -> AsyncIterator[Kept]:
    kept = Kept(MemoryStore())
    await kept.held.open()
    yield kept
    await kept.held.close()


async def test_only_a_hash_is_stored_and_the_token_is_in_no_repr(tokens: Kept) -> None:
    text, id, token = await tokens.create(NewToken("operator", "ana"))
    secret = text[21:]
    assert tokens.shown(text) is not None
    assert secret not in repr((tokens.shown(text), token, await tokens.all()))
    assert not any(secret.encode() in value for value in (await tokens.stored()).values())
    assert set(await tokens.stored()) == {f"token/{id}"}


async def test_another_text_is_no_token(tokens: Kept) -> None:
    text, id, _ = await tokens.create(NewToken("reader", "ana"))
    for wrong in (
        "",
        " ",
        text[:-1],
        text + "a",
        text.swapcase(),
        f"cfgsync_{id}_" + "A" * 43,
        id,
        f" {text}",
    ):
        assert tokens.shown(wrong) is None, wrong


async def test_a_token_ends_and_is_forgotten_a_day_later(tokens: Kept) -> None:
    text, *_ = await tokens.create(NewToken("reader", "ana", ttl=100))
    tokens.now += 100 + LEEWAY
    assert tokens.shown(text) is not None
    tokens.now += 1
    assert tokens.shown(text) is None
    assert tokens.known(text) is not None, "a refusal can say that it has ended"
    tokens.now += DAY
    await tokens.create(NewToken("reader", "bea"))
    assert [token.name for _, token in await tokens.all()] == ["bea"]


async def test_a_token_is_revoked_by_its_id_or_its_name_with_its_sessions(tokens: Kept) -> None:
    text, id, _ = await tokens.create(NewToken("reader", "ana"))
    made = await tokens.log_in(text)
    assert made is not None
    assert tokens.session(made[0]) is not None
    assert await tokens.revoke("ana") == [id]
    assert tokens.session(made[0]) is None
    assert await tokens.stored() == {}
    assert await tokens.revoke("ana") == []


async def reply(call: Call) -> Reply:
    return Reply(200)


def route(access: Caller, scoped: bool = True) -> Route:
    scope = (lambda call: f"{call.names['app']}/{call.names['env']}") if scoped else None
    return Route("GET", "/x", reply, "x", access, scope=scope)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("join", ()),
        ("reader", ("reader",)),
        ("writer", ("writer",)),
        ("operator", ("reader", "writer", "operator")),
    ],
)
async def test_a_role_permits_its_routes_and_no_others(tokens: Kept, role, may) -> None:
    more = {"covers": "*"} if role == "join" else {"scopes": ("shop/live",)} if role == "writer" else {}
    text, *_ = await tokens.create(NewToken(role, "ana", **more))
    shown = tokens.shown(text)
    assert shown is not None
    live = Call(names={"app": "shop", "env": "live"})
    assert tuple(kind for kind in KINDS if shown.permits(route(kind), live)) == may


@pytest.mark.parametrize(
    ("env", "permitted"), [("live", True), ("test", False), ("LIVE", False), ("live/", False), ("", False)]
)
async def test_a_writer_writes_in_its_scope_only(tokens: Kept, env: str, permitted: bool) -> None:
    text, *_ = await tokens.create(NewToken("writer", "ci", scopes=("shop/live", "shop/next")))
    shown = tokens.shown(text)
    assert shown is not None
    call = Call(names={"app": "shop", "env": env})
    assert shown.permits(route("writer"), call) is permitted
    assert not shown.permits(route("writer", scoped=False), call), "a route without a scope is in none"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (NewToken(), "for"),
        (NewToken(covers="web-[12]"), "for"),
        (NewToken(covers="*", uses=0), "uses"),
        (NewToken(covers="*", ttl=0), "ttl"),
        (NewToken(covers="*", ttl=1e12), "ttl"),
        (NewToken(covers="*", name="a b"), "name"),
        (NewToken("operator"), "name"),
        (NewToken("reader", "ana", covers="*"), "role"),
        (NewToken("writer", "ana"), "scopes"),
        (NewToken("writer", "ana", scopes=("shop",)), "scopes"),
        (NewToken("operator", "ana", scopes=("shop/live",)), "scopes"),
        (NewToken(covers="*", scopes=("shop/live",)), "scopes"),
    ],
)
async def test_a_wrong_token_is_refused_with_its_field(tokens: Kept, wanted: NewToken, field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        await tokens.create(wanted)
    assert await tokens.stored() == {}


async def test_a_session_lasts_an_hour_and_no_longer_than_its_token(tokens: Kept) -> None:
    text, *_ = await tokens.create(NewToken("operator", "ana"))
    short, *_ = await tokens.create(NewToken("reader", "bea", ttl=60))
    first, second = await tokens.log_in(f" {text}\n"), await tokens.log_in(short)
    assert first is not None
    assert second is not None
    reader = tokens.session(first[0])
    assert reader is not None
    assert (reader.role, reader.name) == ("reader", "ana"), "a session only reads"
    assert not any(
        first[0].encode() in value + key.encode() for key, value in (await tokens.stored()).items()
    )
    tokens.now += 61
    assert tokens.session(second[0]) is None
    tokens.now += SESSION_SECONDS - 61
    assert tokens.session(first[0]) is not None
    tokens.now += 1
    assert tokens.session(first[0]) is None


async def test_who_may_log_in(tokens: Kept) -> None:
    for wanted in (
        NewToken(covers="*"),
        NewToken("writer", "ci", scopes=("a/b",)),
        NewToken("reader", "x", scopes=("a/b",)),
    ):
        text, *_ = await tokens.create(wanted)
        assert await tokens.log_in(text) is None, wanted
    assert await tokens.log_in("x") is None
    assert await tokens.log_in("") is None


async def test_a_session_ends_at_log_out_and_the_oldest_ones_when_there_are_too_many(tokens: Kept) -> None:
    text, *_ = await tokens.create(NewToken("reader", "ana", ttl=DAY))
    first = await tokens.log_in(text)
    assert first is not None
    tokens.now += 1
    for _ in range(SESSIONS):
        last = await tokens.log_in(text)
    assert last is not None
    assert tokens.session(first[0]) is None
    assert len(await tokens.stored()) == SESSIONS + 1
    await tokens.log_out(last[0])
    assert tokens.session(last[0]) is None
    await tokens.log_out("no such cookie")
