"""Typed values in an application, over real sockets: bound, changed, kept when a document is wrong, started without a server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pydantic
import pytest

from cfgsync_core import MemoryStore
from cfgsync_core.follow import ReaderState
from cfgsync_documents import (
    BlockingConfigManager,
    ConfigDefinition,
    ConfigManager,
    ConfigNotReady,
    ConfigNotRegistered,
    ConfigRegistrationException,
    ConfigRegistrationResult,
    ConfigStartupMode,
    DocumentName,
    Scope,
)
from cfgsync_documents.client.transport import ScopeTransport
from cfgsync_documents.service import Documents
from cfgsync_runtime.compose.document_server import serving_documents

SCOPE = Scope("proxy", "prod")
NOWHERE = "http://127.0.0.1:9"
DEGRADED = {"startup_mode": ConfigStartupMode.DEGRADED, "timeout": 0.3}


class Limits(msgspec.Struct):
    players: int
    ratio: float = 1.0


def definition(key: str = "limits", players: int = 50) -> ConfigDefinition[Limits]:
    return ConfigDefinition("lobby", key, Limits, default=Limits(players))


def name(key: str = "limits") -> DocumentName:
    return DocumentName(SCOPE, "lobby", key)


async def eventually(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.01)


class serving:
    """A server on a store of its own, other documents on the same store, and a manager."""

    def __init__(self, cache: Path | None = None, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.cache = None if cache is None else str(cache)

    async def __aenter__(self) -> serving:
        self.server = serving_documents(store=self.store, open_documents=True)
        self.url = (await self.server.__aenter__()).url
        self.manager = ConfigManager.connect(self.url, cache_dir=self.cache)
        await self.manager.__aenter__()
        self.over = ScopeTransport(self.url)
        await self.over.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.over.__aexit__(None, None, None)
        await self.manager.__aexit__()
        await self.server.__aexit__(None, None, None)

    async def register(self, one: ConfigDefinition, **more) -> ConfigRegistrationResult:
        return await self.manager.register(one, app="proxy", env="prod", **more)

    async def put(self, content: object, key: str = "limits") -> None:
        """Write as an operator does, over HTTP."""
        session = self.over._session
        url = f"{self.url}/v1/config/admin/apps/proxy/envs/prod/namespaces/lobby/documents/{key}"
        if content is None:
            assert (await session.delete(url)).status == 200
        else:
            assert (await session.put(url, json={"contentJson": json.dumps(content)})).status == 200


async def test_a_registration_creates_the_default_and_a_change_is_a_value_here():
    one = definition()
    async with serving() as there:
        assert await there.register(one) == ConfigRegistrationResult("READY")
        assert there.manager.get(one) == Limits(50)
        seen: list[Limits] = []
        there.manager.on_change(one, seen.append)
        for players in (60, 60, 70):
            await there.put({"players": players})
            await eventually(lambda players=players: there.manager.get(one).players == players)
        assert seen == [Limits(60), Limits(70)]
        status = there.manager.status(one)
        assert (status.state, status.error) == (ReaderState.CURRENT, "")
        assert status.version.endswith(".3")


async def test_what_an_operator_has_written_before_is_not_overwritten_by_the_default():
    one = definition()
    async with serving() as there:
        await there.put({"players": 7})
        await there.register(one)
        assert there.manager.get(one) == Limits(7)


async def test_the_default_is_sent_before_the_snapshot_is_read():
    asked: list[str] = []

    class Recording(ScopeTransport):
        async def sync_defaults(self, scope, defaults):
            asked.append(f"defaults {[key for _, key, _ in defaults]}")
            return await super().sync_defaults(scope, defaults)

        async def snapshot(self, scope, ask):
            asked.append("snapshot" if ask.known is None else "held")
            return await super().snapshot(scope, ask)

    async with serving() as there:
        async with ConfigManager(Recording(there.url), None, 15.0) as manager:
            for key in ("a", "b"):
                await manager.register(definition(key), app="proxy", env="prod")
        assert asked[:2] == ["defaults ['a']", "snapshot"]
        assert asked.count("snapshot") == 1
        assert "defaults ['b']" in asked


@dataclass
class Plain:
    players: int


class Model(pydantic.BaseModel):
    players: int = pydantic.Field(gt=0)


@pytest.mark.parametrize("kind", [Limits, Plain, Model])
async def test_a_document_is_a_struct_a_dataclass_or_a_pydantic_model(kind):
    one = ConfigDefinition("lobby", "limits", kind, default=kind(players=1))
    async with serving() as there:
        await there.register(one)
        await there.put({"players": 2})
        await eventually(lambda: there.manager.get(one) == kind(players=2))


async def test_a_malformed_document_keeps_the_value_and_says_so_and_the_others_move_on(tmp_path, caplog):
    one, other = definition(), definition("other")
    async with serving(tmp_path) as there:
        await there.register(one)
        await there.register(other)
        await there.put({"players": 60})
        await eventually(lambda: there.manager.get(one).players == 60)
        await there.put({"players": "many"})
        await there.put({"players": 61}, "other")
        await eventually(lambda: there.manager.get(other).players == 61)
        assert there.manager.get(one) == Limits(60)
        assert "players" in there.manager.status(one).error
        assert "the value before it is kept" in caplog.text
    async with ConfigManager.connect(NOWHERE, cache_dir=str(tmp_path)) as manager:
        again = definition()
        result = await manager.register(again, app="proxy", env="prod", **DEGRADED)
        assert result == ConfigRegistrationResult("DEGRADED", "loaded_cached_snapshot")
        assert manager.get(again) == Limits(60)  # the last good one
        assert manager.status(again).age is None


async def test_a_deleted_document_is_the_default_again():
    one = definition()
    async with serving() as there:
        await there.put({"players": 7})
        await there.register(one)
        await there.put(None)
        await eventually(lambda: there.manager.get(one) == Limits(50))


async def test_a_callback_that_raises_stops_no_other():
    one = definition()
    seen: list[int] = []
    async with serving() as there:
        await there.register(one)
        there.manager.on_change(one, lambda new: 1 / 0)
        there.manager.on_change(one, lambda new: seen.append(new.players))
        for players in (60, 70):
            await there.put({"players": players})
            await eventually(lambda players=players: players in seen)


async def test_without_a_server_fail_closed_raises_and_leaves_nothing_registered():
    one = definition()
    async with ConfigManager.connect(NOWHERE) as manager:
        with pytest.raises(ConfigRegistrationException) as raised:
            await manager.register(one, app="proxy", env="prod", timeout=0.3)
        assert str(raised.value).startswith(
            "Config bootstrap failed (app=proxy, env=prod, namespace=lobby, key=limits): "
        )
        with pytest.raises(ConfigNotRegistered):
            manager.get(one)


async def test_fail_closed_raises_for_a_document_that_is_not_of_the_type():
    one = definition()
    async with serving() as there:
        await there.put({"players": "many"})
        with pytest.raises(ConfigRegistrationException, match="left binding uninitialized"):
            await there.register(one)
        assert await there.register(one, **DEGRADED) == ConfigRegistrationResult(
            "NOT_READY", "binding_not_initialized"
        )
        with pytest.raises(ConfigNotReady, match="players"):
            there.manager.get(one)
        await there.put({"players": 3})
        await eventually(lambda: there.manager.status(one).error == "")
        assert there.manager.get(one) == Limits(3)


async def test_a_degraded_start_without_a_cache_is_not_ready_and_heals_when_the_server_comes():
    one = definition()
    server = serving_documents(open_documents=True)
    running = await server.__aenter__()
    port = running.port
    await server.__aexit__(None, None, None)
    async with ConfigManager.connect(f"http://127.0.0.1:{port}", interval=0.2) as manager:
        result = await manager.register(one, app="proxy", env="prod", **DEGRADED)
        assert result == ConfigRegistrationResult("NOT_READY", "bootstrap_failed_no_cached_snapshot")
        with pytest.raises(ConfigNotReady):
            manager.get(one)
        store = MemoryStore()
        async with serving_documents(store=store, open_documents=True, port=port):
            await eventually(lambda: manager.status(one).state is ReaderState.CURRENT)
            assert manager.get(one) == Limits(50)
            async with Documents(store) as documents:
                assert (await documents.get(name())).data == b'{"players":50,"ratio":1.0}'


async def test_a_definition_is_registered_once_and_a_document_has_one_definition():
    one = definition()
    async with serving() as there:
        await there.register(one)
        assert await there.register(one) == ConfigRegistrationResult(
            "ALREADY_REGISTERED", "definition_already_registered"
        )
        assert await there.register(definition()) == ConfigRegistrationResult(
            "REJECTED", "config_key_already_registered"
        )
        with pytest.raises(ConfigNotRegistered):
            there.manager.on_change(definition(), print)


async def test_a_dropped_bucket_strands_no_application():
    one = definition()
    async with serving() as there:
        await there.register(one)
        for players in (60, 61):
            await there.put({"players": players})
        await eventually(lambda: there.manager.get(one).players == 61)
        await there.store.drop("config/proxy/prod")
        await there.put({"players": 5})
        await eventually(lambda: there.manager.get(one).players == 5)


async def test_a_program_without_a_loop_binds_a_value_and_is_called_back():
    one, seen = definition(), []

    def program(url: str, put: Callable[[object], None]) -> list[object]:
        with BlockingConfigManager.connect(url) as manager:
            results: list[object] = [manager.register(one, app="proxy", env="prod"), manager.get(one)]
            changed = threading.Event()
            manager.on_change(one, lambda new: (seen.append(new), changed.set()))
            put({"players": 60})
            assert changed.wait(30)
            with pytest.raises(ConfigNotRegistered):
                manager.get(definition())
            return [*results, manager.get(one), manager.status(one).error]

    async with serving() as there:
        loop = asyncio.get_running_loop()

        def put(content: object) -> None:
            asyncio.run_coroutine_threadsafe(there.put(content), loop).result(30)

        got = await asyncio.to_thread(program, there.url, put)
    assert got == [ConfigRegistrationResult("READY"), Limits(50), Limits(60), ""]
    assert seen == [Limits(60)]


async def test_a_cache_that_was_cut_is_not_used(tmp_path, caplog):
    one = definition()
    async with serving(tmp_path) as there:
        await there.register(one)
        file = tmp_path / "proxy" / "prod.json"
        await eventually(file.exists)
    for content in (file.read_bytes()[:-9], file.read_bytes().replace(b"50", b"51"), b""):
        file.write_bytes(content)
        async with ConfigManager.connect(NOWHERE, cache_dir=str(tmp_path)) as manager:
            result = await manager.register(definition(), app="proxy", env="prod", **DEGRADED)
            assert result.reason == "bootstrap_failed_no_cached_snapshot"
    assert caplog.text.count("cannot be used") == 3
