"""A name belongs to whoever's secret it was first registered with: who is let in, who is not, and what changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.nodes.last_seen import LastSeen
from cfgsync_core import (
    Acknowledgement,
    BucketSnapshot,
    MemoryStore,
    NodeRegistration,
    OutcomeUnknown,
    RevisionedStore,
    Unavailable,
    Version,
)
from cfgsync_core.server.route import Call, Reply
from cfgsync_core.wire.acknowledgement import encode_acknowledgement
from cfgsync_core.wire.protocol import encode_registration
from cfgsync_runtime.access.admission import Admission
from cfgsync_runtime.access.identity import Identities
from cfgsync_runtime.access.tokens.credentials import BUCKET, credentials
from cfgsync_runtime.access.tokens.tokens import Tokens
from tests.routes import routes_of

MINE, OTHER = "m" * 43, "o" * 43


class Secrets:
    """Gives each node its metadata back, once nobody says that he waits."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if any(r.metadata == "wait" for r in registrations):
            return NotReady("somebody waits", retry_after=3600)
        return MaterializedArtifacts.from_nodes(
            {r.identifier: ArtifactSet([ArtifactFile("/file", str(r.metadata))]) for r in registrations}
        )


class Guarded:
    """A guarded source with a store; `again()` is the server after a restart on the same store."""

    def __init__(
        self,
        store: RevisionedStore,
        anonymous: bool = True,
        rebind: bool = False,
        ttl: float | None = None,
        seen: LastSeen | None = None,
    ) -> None:
        self.store = store
        self._held = credentials(store)
        self._identities = Identities(self._held, Tokens(self._held), anonymous=anonymous, rebind=rebind)
        self.source = RegistrationConfigSource(
            Secrets(), store=store, before_leaving=self._identities.release, ttl=ttl, seen=seen
        )
        self._identities.lapsed = self.source.lapse
        self._routes = {route.path: route for route in routes_of(self.source, evict=self._evicted)}

    async def _evicted(self, name: str) -> bool:
        return await self.source.evict(name) or await self._identities.release([name])

    async def _ask(
        self,
        path: str,
        body: bytes,
        secret: str | None,
        wait: float = 0.0,
        keepalive: str | None = None,
        next_secret: str | None = None,
    ) -> Reply:
        route = self._routes[path]
        assert route.body is not None
        headers = {"Prefer": f"wait={wait:g}"} | (
            {} if secret is None else {"Authorization": f"Bearer {secret}"}
        )
        if keepalive is not None:
            headers["Cfgsync-Keepalive"] = keepalive
        if next_secret is not None:
            headers["Cfgsync-Next-Secret"] = next_secret
        call = Call(headers, value=route.body.decode(body))
        access = Admission(identities=self._identities)
        return await access.answer(route, call)

    async def __aenter__(self) -> Guarded:
        await self._held.open()
        await self.source.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.close()

    async def register(
        self,
        secret: str | None,
        metadata: object = None,
        name: str = "node-1",
        keepalive: str | None = None,
        next_secret: str | None = None,
    ) -> Reply:
        registration = NodeRegistration(name, "127.0.0.1").with_metadata(metadata)
        return await self._ask(
            "/register",
            encode_registration(registration),
            secret,
            keepalive=keepalive,
            next_secret=next_secret,
        )

    async def node(
        self, secret: str | None, name: str = "node-1", wait: float = 0.0, keepalive: str | None = None
    ) -> Reply:
        return await self._ask("/node", json.dumps({"identifier": name}).encode(), secret, wait, keepalive)

    async def ack(self, secret: str | None, digest: str = "", name: str = "node-1") -> Reply:
        current = self.source.generation
        assert current is not None
        said = Acknowledgement(name, current.text, digest or current.nodes["node-1"].digest, "applied")
        return await self._ask("/ack", encode_acknowledgement(said), secret)

    async def evict(self, name: str = "node-1") -> Reply:
        return await self._ask("/admin/evict", json.dumps({"identifier": name}).encode(), None)

    async def bindings(self) -> dict[str, str]:
        cut = await self.store.snapshot(BUCKET)
        assert isinstance(cut, BucketSnapshot)
        return {entry.key: entry.value.decode() for entry in cut.entries}


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, "" if reply.status < 400 else json.loads(b"".join(reply.chunks))["code"]


def content(reply: Reply) -> str:
    assert reply.status == 200
    text: str = json.loads(b"".join(reply.chunks))["files"][0]["content"]
    return text


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    async with Guarded(MemoryStore()) as made:
        yield made


async def test_a_bound_name_is_answered_to_its_secret_alone(guarded: Guarded) -> None:
    assert code(await guarded.register(MINE, "mine")) == (202, "")
    assert code(await guarded.register(MINE, "mine")) == (202, "")
    assert content(await guarded.node(MINE)) == "mine"
    assert code(await guarded.register(None, "none")) == (401, "unauthorized")
    assert code(await guarded.register(OTHER, "other")) == (409, "identity_conflict")
    assert code(await guarded.node(None)) == (401, "unauthorized")
    assert code(await guarded.node(OTHER)) == (403, "forbidden")
    assert (await guarded.node(None)).headers["WWW-Authenticate"] == "Bearer"
    assert content(await guarded.node(MINE)) == "mine"  # nothing changed


async def test_binding_makes_no_revision_of_the_registrations_and_keeps_no_secret(guarded: Guarded) -> None:
    await guarded.register(None, "as it was")
    await guarded.register(MINE, "as it was")
    assert (await guarded.store.version("registrations")).revision == 1
    bound = await guarded.bindings()
    assert bound.keys() == {"node-1"}
    assert MINE not in bound["node-1"]
    assert len(bound["node-1"]) == 64


async def test_an_unbound_name_is_anybodys_until_the_first_secret(guarded: Guarded) -> None:
    await guarded.register(None, "first")
    await guarded.register(None, "second")
    assert content(await guarded.node(None)) == "second"
    assert content(await guarded.node(OTHER)) == "second"  # a secret does no harm, and binds nothing
    assert code(await guarded.register(MINE, "third")) == (202, "")
    assert code(await guarded.node(None)) == (401, "unauthorized")
    assert code(await guarded.node(OTHER)) == (403, "forbidden")


async def test_a_refusal_says_how_the_name_becomes_free(guarded: Guarded) -> None:
    await guarded.register(MINE)
    for refused in (await guarded.register(OTHER), await guarded.node(OTHER)):
        said = b"".join(refused.chunks).decode()
        assert "cfgsync node evict" in said
        assert MINE not in said
        assert OTHER not in said


async def test_other_names_are_not_touched(guarded: Guarded) -> None:
    await guarded.register(MINE, "mine", "node-1")
    await guarded.register(OTHER, "other", "node-2")
    await guarded.register(None, "nobody's", "node-3")
    assert content(await guarded.node(OTHER, "node-2")) == "other"
    assert content(await guarded.node(None, "node-3")) == "nobody's"
    assert code(await guarded.node(MINE, "node-2")) == (403, "forbidden")


async def test_of_many_first_registrations_with_different_secrets_exactly_one_wins(guarded: Guarded) -> None:
    secrets = [f"secret-number-{n:03}" for n in range(50)]
    replies = await asyncio.gather(*(guarded.register(secret, secret) for secret in secrets))
    won = [secret for secret, reply in zip(secrets, replies, strict=True) if reply.status == 202]
    assert len(won) == 1
    assert {code(reply) for reply in replies} == {(202, ""), (409, "identity_conflict")}
    assert content(await guarded.node(won[0])) == won[0]
    assert [code(await guarded.node(secret)) for secret in secrets if secret not in won] == [
        (403, "forbidden")
    ] * 49


async def test_a_binding_outlives_the_server() -> None:
    store = MemoryStore()
    async with Guarded(store) as before:
        await before.register(MINE, "mine")
    async with Guarded(store) as after:
        assert code(await after.node(OTHER)) == (403, "forbidden")
        assert code(await after.node(None)) == (401, "unauthorized")
        assert code(await after.register(OTHER, "other")) == (409, "identity_conflict")
        assert content(await after.node(MINE)) == "mine"


class NoAnswer(MemoryStore):
    """Commits, and then cannot say so."""

    silent = False

    async def commit(self, bucket: str, *arguments: object, **more: object) -> Version:
        version = await super().commit(bucket, *arguments, **more)  # type: ignore[arg-type]
        if self.silent:
            raise OutcomeUnknown("no answer")
        return version


async def test_a_binding_whose_commit_got_no_answer_is_the_same_nodes_when_it_comes_again() -> None:
    store = NoAnswer()
    async with Guarded(store) as guarded:
        store.silent = True
        with pytest.raises(OutcomeUnknown):
            await guarded.register(MINE, "mine")
        store.silent = False
        assert code(await guarded.register(OTHER, "other")) == (409, "identity_conflict")
        assert code(await guarded.register(MINE, "mine")) == (202, "")
        assert content(await guarded.node(MINE)) == "mine"


async def test_where_anonymous_nodes_are_not_taken_a_secret_is_needed() -> None:
    async with Guarded(MemoryStore(), anonymous=False) as guarded:
        assert code(await guarded.register(None)) == (401, "unauthorized")
        assert code(await guarded.register(MINE)) == (202, "")
        assert guarded.source.fleet(10, "").registered == 1


async def test_where_auth_is_off_another_secret_takes_the_name() -> None:
    async with Guarded(MemoryStore(), rebind=True) as guarded:
        await guarded.register(MINE, "mine")
        assert code(await guarded.register(OTHER, "other")) == (202, "")
        assert content(await guarded.node(OTHER)) == "other"
        assert code(await guarded.node(MINE)) == (403, "forbidden")


async def test_a_question_that_was_held_before_the_name_was_bound_does_not_get_the_owners_files(
    guarded: Guarded,
) -> None:
    await guarded.register(None, "wait")
    asked = asyncio.create_task(guarded.node(None, wait=20))
    await asyncio.sleep(0)
    assert guarded.source.fleet(1, "").waiting == 1
    await guarded.register(MINE, "for the owner alone")
    assert code(await asked) == (401, "unauthorized")
    assert content(await guarded.node(MINE)) == "for the owner alone"


async def test_a_secret_that_is_no_text_is_a_secret_like_another(guarded: Guarded) -> None:
    odd = b"\xff\xfe secret".decode("utf-8", "surrogateescape")  # as a header with such bytes is decoded
    await guarded.register(MINE)
    assert code(await guarded.register(odd)) == (409, "identity_conflict")
    assert code(await guarded.node(odd)) == (403, "forbidden")


# ── acknowledgements and leaving ─────────────────────────────────────────────────────────────────────────────────────


async def test_only_the_node_itself_acknowledges_for_a_bound_name() -> None:
    async with Guarded(MemoryStore()) as guarded:
        await guarded.register(MINE)
        await guarded.node(MINE)
        assert code(await guarded.ack(None)) == (401, "unauthorized")
        assert code(await guarded.ack(OTHER)) == (403, "forbidden")
        assert guarded.source.node("node-1").applied is None
        assert code(await guarded.ack(MINE)) == (204, "")
        assert guarded.source.node("node-1").applied is not None


async def test_an_unbound_name_is_acknowledged_for_without_a_secret() -> None:
    async with Guarded(MemoryStore()) as guarded:
        await guarded.register(None)
        await guarded.node(None)
        assert code(await guarded.ack(None)) == (204, "")


@pytest.mark.parametrize("text", ["zz", "", "0" * 63, "A" * 64])
async def test_a_next_secret_that_is_no_hash_is_400_and_nothing_is_registered(text: str) -> None:
    async with Guarded(MemoryStore()) as server:
        refused = await server.register(MINE, next_secret=text)
        assert code(refused) == (400, "invalid_request")
        assert b"Cfgsync-Next-Secret is not the SHA-256" in b"".join(refused.chunks)
        assert await server.bindings() == {}
        assert (await server.register(MINE, next_secret="0" * 64)).headers["Cfgsync-Next-Secret"] == "0" * 64


async def test_evicting_frees_the_name_also_for_the_next_start() -> None:
    store = MemoryStore()
    async with Guarded(store) as guarded:
        await guarded.register(MINE)
        assert code(await guarded.register(OTHER)) == (409, "identity_conflict")
        assert code(await guarded.evict()) == (200, "")
        assert await guarded.bindings() == {}
        assert code(await guarded.register(OTHER)) == (202, "")
        assert code(await guarded.node(MINE)) == (403, "forbidden")
    async with Guarded(store) as guarded:
        assert code(await guarded.register(MINE)) == (409, "identity_conflict")
        assert code(await guarded.node(OTHER)) == (200, "")


async def test_evicting_nobody_is_404() -> None:
    async with Guarded(MemoryStore()) as guarded:
        assert code(await guarded.evict("stranger")) == (404, "not_found")


async def test_a_name_that_a_crash_left_bound_and_unregistered_can_be_evicted() -> None:
    async with Guarded(MemoryStore()) as guarded:
        await guarded.register(MINE)
        await guarded.source.evict("node-1")
        await guarded.store.commit(BUCKET, {"node-1": b"0" * 64})
        async with Guarded(guarded.store) as again:
            assert code(await again.register(OTHER)) == (409, "identity_conflict")
            assert code(await again.evict()) == (200, "")
            assert code(await again.register(OTHER)) == (202, "")


async def test_a_name_that_could_not_be_freed_stays_bound() -> None:
    class Away(MemoryStore):
        away = False

        async def commit(self, bucket: str, *arguments: object, **more: object) -> Version:
            if self.away and bucket == BUCKET:
                raise Unavailable("away")
            return await super().commit(bucket, *arguments, **more)  # type: ignore[arg-type]

    store = Away()
    async with Guarded(store) as guarded:
        await guarded.register(MINE)
        store.away = True
        with pytest.raises(Unavailable):
            await guarded.evict()
        assert code(await guarded.node(OTHER)) == (403, "forbidden")
        assert code(await guarded.node(MINE)) == (200, "")


async def test_register_without_a_promise_withdraws_it_and_node_without_one_does_not(
    guarded: Guarded,
) -> None:
    def promised() -> int | None:
        return guarded.source.node("node-1").keepalive

    await guarded.register(MINE, keepalive="60")
    assert promised() == 60
    await guarded.node(MINE)
    assert promised() == 60
    await guarded.node(MINE, keepalive="30")
    assert promised() == 30
    assert code(await guarded.node(OTHER, keepalive="1"))[0] == 403
    assert promised() == 30, "nobody promises in another's name"
    await guarded.register(MINE)
    assert promised() is None
    await guarded.node(MINE, keepalive="30")
    assert promised() == 30, "a watcher beside a fetch by hand promises again"
    assert guarded.source.fleet(0, "").revision == 1


@pytest.mark.parametrize("text", ["0", "3601", "-1", "60s", "6e1", "", " 60", "٣", "99999"])
async def test_another_text_is_no_promise(guarded: Guarded, text: str) -> None:
    assert (await guarded.register(MINE, keepalive=text)).status == 202
    assert guarded.source.node("node-1").keepalive is None


async def test_the_name_of_a_silent_node_that_promised_nothing_is_taken_by_the_first_new_secret() -> None:
    store, now = MemoryStore(), [0.0]
    async with Guarded(store, ttl=60, seen=LastSeen(lambda: now[0])) as guarded:
        await guarded.register(MINE)
        await guarded.register(MINE, name="watches", keepalive="20")
        now[0] = 59.0
        assert code(await guarded.register(OTHER)) == (409, "identity_conflict")
        now[0] = 60.0
        before = guarded.source.fleet(0, "").revision
        third = "t" * 43
        both = await asyncio.gather(guarded.register(OTHER), guarded.register(third))
        assert sorted(reply.status for reply in both) == [202, 409]
        assert guarded.source.fleet(0, "").revision == before, "the registration stayed"
        winner = OTHER if both[0].status == 202 else third
        assert (await guarded.node(winner)).status == 200
        assert code(await guarded.node(MINE))[0] == 403
        assert code(await guarded.register(MINE)) == (409, "identity_conflict")
        assert code(await guarded.register(OTHER, name="watches")) == (409, "identity_conflict"), "it expires"
