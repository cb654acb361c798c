"""Typed values in an application, over real sockets: bound, changed, kept when a document is wrong, started without a server."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import aiohttp
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
    ConfigUpdate,
    DocumentName,
    Scope,
    UnknownKind,
)
from cfgsync_documents.client.snapshot_file import SnapshotFile
from cfgsync_documents.client.transport import ScopeTransport
from cfgsync_documents.service import Documents
from cfgsync_runtime.access.tls import ServerCertificate
from cfgsync_runtime.compose.document_server import serving_documents
from tests.certificates import Authority

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
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()
        await self.manager.__aexit__()
        await self.server.__aexit__(None, None, None)

    async def register(self, one: ConfigDefinition, **more) -> ConfigRegistrationResult:
        return await self.manager.register(one, app="proxy", env="prod", **more)

    async def put(self, content: object, key: str = "limits") -> None:
        """Write as an operator does, over HTTP."""
        session = self.session
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


class Recording(ScopeTransport):
    """What was done, in order."""

    def __init__(self, url: str, done: list[str]) -> None:
        super().__init__(url)
        self.done = done

    async def sync_defaults(self, scope, defaults):
        self.done.append(f"defaults {[key for _, key, _ in defaults]}")
        return await super().sync_defaults(scope, defaults)

    async def snapshot(self, scope, ask):
        self.done.append("snapshot" if ask.known is None else "again")
        return await super().snapshot(scope, ask)


async def test_the_default_is_sent_then_hints_are_subscribed_to_then_the_snapshot_is_read():
    """A change between subscription and snapshot is in the snapshot, or its hint makes a second read."""
    done: list[str] = []
    hints: asyncio.Queue[None] = asyncio.Queue()

    @asynccontextmanager
    async def bus(app: str, env: str):
        done.append(f"subscribe {app}/{env}")
        await there.put({"players": 60})  # after the defaults, before the snapshot

        async def heard():
            while True:
                yield await hints.get()

        yield heard()

    one = definition("limits")
    async with serving() as there:
        transport = Recording(there.url, done)
        async with ConfigManager(transport, None, 600.0, bus) as manager:
            await manager.register(one, app="proxy", env="prod")
            assert manager.get(one) == Limits(60)
            assert done == ["defaults ['limits']", "subscribe proxy/prod", "snapshot"]
            assert manager.status(one).hinted is None
            await there.put({"players": 70})
            hints.put_nowait(None)
            await eventually(lambda: manager.get(one) == Limits(70))
            assert done[3:] == ["again"]
            assert manager.status(one).hinted is not None
            await manager.register(definition("late"), app="proxy", env="prod")
            assert done.count("snapshot") == done.count("subscribe proxy/prod") == 1
            assert "defaults ['late']" in done


async def test_a_scope_is_read_at_intervals_when_no_hint_ever_comes():
    @asynccontextmanager
    async def deaf(app: str, env: str):
        raise ConnectionError("no bus")
        yield

    one = definition()
    async with serving() as there, ConfigManager.connect(there.url, interval=0.1, hints=deaf) as manager:
        await manager.register(one, app="proxy", env="prod")
        await there.put({"players": 60})
        await eventually(lambda: manager.get(one) == Limits(60))


async def test_a_bus_that_dies_between_changes_delays_no_value_beyond_an_interval():
    alive = True

    @asynccontextmanager
    async def bus(app: str, env: str):
        if not alive:
            raise ConnectionError("the bus is gone")

        async def heard():
            while alive:
                await asyncio.sleep(0.01)
                yield None

        yield heard()

    one = definition()
    async with serving() as there, ConfigManager.connect(there.url, interval=0.3, hints=bus) as manager:
        await manager.register(one, app="proxy", env="prod")
        for players in range(1, 40):
            alive = players < 20
            await there.put({"players": players})
        await eventually(lambda: manager.get(one) == Limits(39))


@pytest.mark.parametrize("mode", [{}, DEGRADED | {"timeout": 60.0}])
async def test_a_manager_that_closes_ends_a_registration_that_is_under_way(mode):
    one = definition()
    async with ConfigManager.connect(NOWHERE) as manager:
        registering = asyncio.create_task(manager.register(one, app="proxy", env="prod", **mode))
        await eventually(lambda: manager._bootstraps)
        await asyncio.sleep(0)
    with pytest.raises(ConfigRegistrationException, match="the manager was closed"):
        await registering
    with pytest.raises(ConfigNotRegistered):
        manager.get(one)


async def test_a_registration_that_is_cancelled_leaves_nothing_registered():
    one = definition()
    async with ConfigManager.connect(NOWHERE) as manager:
        registering = asyncio.create_task(manager.register(one, app="proxy", env="prod"))
        await eventually(lambda: manager._bootstraps)
        registering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await registering
        with pytest.raises(ConfigNotRegistered):
            manager.get(one)
        await eventually(lambda: not manager._bootstraps)


async def test_a_document_without_a_type_is_watched_by_its_name_until_the_watch_stops(caplog):
    seen: list[ConfigUpdate] = []
    async with serving() as there:
        await there.put({"players": 1, "ratio": 2})
        watch = await there.manager.watch("limits", seen.append, app="proxy", env="prod", namespace="lobby")
        await there.manager.watch("limits", lambda new: 1 / 0, app="proxy", env="prod", namespace="lobby")
        await eventually(lambda: len(seen) == 1)
        await there.put(None)
        await eventually(lambda: len(seen) == 2)
        await there.put([True], "other")
        await there.put("a text")
        await eventually(lambda: len(seen) == 3)
        await watch.stop()
        await watch.stop()
        assert seen == [
            ConfigUpdate("limits", {"players": 1, "ratio": 2}, 1),
            ConfigUpdate("limits", None, 0, deleted=True),
            ConfigUpdate("limits", "a text", 4),
        ]
        assert caplog.text.count("a callback failed") == 3


async def test_a_server_is_verified_and_asked_with_the_token_of_a_file(tmp_path):
    authority = Authority(tmp_path)
    one = definition()
    token = tmp_path / "token"
    socket = str(tmp_path / "admin.sock")
    cert, key = authority.pair()
    serves = serving_documents(
        tls=ServerCertificate(str(cert), str(key)), requires_tokens=True, admin_socket=socket
    )
    async with (
        serves as server,
        aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(socket)) as operator,
    ):
        assert server.url.startswith("https://")
        made = {"role": "writer", "name": "proxy", "scopes": ["proxy/prod"]}
        async with operator.post("/admin/token/create", json={**made, "role": "reader"}) as answer:
            token.write_text((await answer.json())["token"] + "\n")
        for trust in ({"ca_file": str(authority.file)}, {"ca_hash": authority.hash}):
            async with ConfigManager.connect(server.url, token_file=str(token), **trust) as manager:
                assert (await manager.register(one, app="proxy", env="prod")).is_usable
            async with ConfigManager.connect(server.url, **trust) as manager:
                with pytest.raises(ConfigRegistrationException, match="401"):
                    await manager.register(one, app="proxy", env="prod")
        async with ConfigManager.connect(server.url, token_file=str(token)) as manager:
            with pytest.raises(ConfigRegistrationException, match="unknown CA"):
                await manager.register(one, app="proxy", env="prod", timeout=0.3)
        async with ConfigManager.connect(
            server.url, token_file=str(tmp_path / "none"), ca_hash=authority.hash
        ) as manager:
            with pytest.raises(ConfigRegistrationException, match="no such file"):
                await manager.register(one, app="proxy", env="prod", timeout=0.3)


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
        assert manager.status(again).read is None  # no server has answered


async def test_a_last_good_value_survives_a_restart_beside_a_malformed_document(tmp_path):
    """Neither the first snapshot of a new process, nor a binding that cannot be made, takes it from the cache."""
    one, other = definition(), definition("other")
    async with serving(tmp_path) as there:
        await there.put({"players": 60})
        await there.register(one)
        await there.register(other)
        await there.put({"players": "many"})
        await eventually(lambda: there.manager.status(one).error)
        async with ConfigManager.connect(there.url, cache_dir=str(tmp_path)) as manager:
            await manager.register(other, app="proxy", env="prod")
            result = await manager.register(one, app="proxy", env="prod", **DEGRADED)
            assert result.reason == "binding_not_initialized"
            await there.put({"players": 61}, "other")
            await eventually(lambda: manager.get(other) == Limits(61))
    async with ConfigManager.connect(NOWHERE, cache_dir=str(tmp_path)) as manager:
        for again, good in ((definition(), 60), (definition("other"), 61)):
            await manager.register(again, app="proxy", env="prod", **DEGRADED)
            assert manager.get(again) == Limits(good)


async def test_a_deleted_document_is_the_default_again_also_in_a_degraded_start(tmp_path, caplog):
    one = definition()
    async with serving(tmp_path) as there:
        await there.put({"players": 7})
        await there.register(one)
        await there.put(None)
        await eventually(lambda: there.manager.get(one) == Limits(50))
        assert "was deleted: its default is used" in caplog.text
        file = tmp_path / "proxy" / "prod.json"
        await eventually(lambda: b'"lobby/limits":null' in file.read_bytes())
    async with ConfigManager.connect(NOWHERE, cache_dir=str(tmp_path)) as manager:
        again = definition(players=55)
        result = await manager.register(again, app="proxy", env="prod", **DEGRADED)
        assert result.status == "DEGRADED"
        assert manager.get(again) == Limits(55)


async def test_a_disk_that_takes_no_cache_takes_no_value_away(tmp_path, caplog):
    (tmp_path / "proxy").write_text("a file where the cache wants a directory")
    one = definition()
    async with serving(tmp_path) as there:
        assert (await there.register(one)).status == "READY"
        await there.put({"players": 60})
        await eventually(lambda: there.manager.get(one) == Limits(60))
    assert caplog.text.count("cannot be cached") == 1


CACHING = """
import sys
from pathlib import Path
from cfgsync_documents import Scope
from cfgsync_documents.client.snapshot_file import CachedSnapshot, SnapshotFile

file = SnapshotFile(Path(sys.argv[1]), Scope("proxy", "prod"))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 1000):
    file.write(CachedSnapshot(f"e.{number}", {f"lobby/{n}": "x" * 500 + str(number) for n in range(100)}))
    print(number, flush=True)
"""


async def test_a_kill_during_cache_writes_leaves_the_old_snapshot_or_the_new_one_whole(tmp_path, caplog):
    random = Random(4)
    file = SnapshotFile(tmp_path, SCOPE)
    written = 0
    for _ in range(4):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CACHING, str(tmp_path), str(written + 1), stdout=asyncio.subprocess.PIPE
        )
        for _ in range(random.randrange(5, 40)):
            written = int(await child.stdout.readline())
        await asyncio.sleep(random.random() * 0.01)
        child.kill()
        said = (await child.stdout.read()).split()
        await child.wait()
        written = int(said[-1]) if said else written
        found = file.read()
        number = int(found.version.partition(".")[2])
        assert number in (written, written + 1)  # the last one may be in place and not yet said
        assert all(json.endswith(f"x{number}") for json in found.documents.values())
        written = number
    assert "cannot be used" not in caplog.text
    assert written > 0


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


async def test_an_async_callback_is_refused_with_words_and_nothing_is_registered_after_the_end():
    async def callback(value: object) -> None: ...

    class Callback:
        async def __call__(self, value: object) -> None: ...

    one = definition()
    async with serving() as there:
        await there.register(one)
        for wrong in (callback, Callback(), partial(callback)):
            with pytest.raises(TypeError, match="is an async function, and a callback is a plain one"):
                there.manager.on_change(one, wrong)
            with pytest.raises(TypeError, match="is an async function"):
                await there.manager.watch("limits", wrong)
    for mode in ConfigStartupMode:
        with pytest.raises(ConfigRegistrationException, match="the manager was closed"):
            await there.register(definition("late"), startup_mode=mode)


async def test_a_degraded_start_says_which_version_it_uses_and_how_old_it_is(tmp_path, caplog):
    one = definition()
    async with serving(tmp_path) as there:
        await there.register(one)
        await there.put({"players": 60})
        await eventually(lambda: there.manager.get(one).players == 60)
        file = SnapshotFile(tmp_path, SCOPE)
        await eventually(lambda: file.read().version.endswith(".2"))
        version = file.read().version
    async with ConfigManager.connect(NOWHERE, cache_dir=str(tmp_path)) as manager:
        result = await manager.register(one, app="proxy", env="prod", **DEGRADED)
        assert result.status == "DEGRADED"
        assert manager.get(one).players == 60
        status = manager.status(one)
        assert (status.version, status.read) == (version, None)
        assert 0 <= status.age < 3_600
        assert f"started from the cache (version {version}, written " in caplog.text


async def test_an_application_follows_a_restored_backup_and_a_wiped_store_without_a_new_epoch(
    tmp_path, caplog
):
    database, backup, port = tmp_path / "docs.db", tmp_path / "backup.db", 0
    one = definition()

    @asynccontextmanager
    async def served():
        nonlocal port
        async with serving_documents(store=f"sqlite:{database}", open_documents=True, port=port) as server:
            port = server.port
            yield server.url

    async def put(url: str, players: int) -> None:
        target = f"{url}/v1/config/admin/apps/proxy/envs/prod/namespaces/lobby/documents/limits"
        body = {"contentJson": json.dumps({"players": players})}
        async with aiohttp.ClientSession() as session, session.put(target, json=body) as reply:
            assert reply.status == 200

    async def until(players: int) -> None:
        await eventually(lambda: manager.get(one).players == players)

    async with served() as url:
        await put(url, 60)
    shutil.copy(database, backup)
    async with ConfigManager.connect(url) as manager:
        async with served() as url:
            await manager.register(one, app="proxy", env="prod")
            for players in (61, 62):
                await put(url, players)
            await until(62)
        shutil.copy(backup, database)
        async with served() as url:
            await until(60)
            await eventually(lambda: "history was lost: read " in caplog.text)
            assert "cfgsync store new-epoch" in caplog.text
            await put(url, 63)
            await until(63)
        database.unlink()
        async with served() as url:
            await until(50)
            await eventually(lambda: "nothing is there any more" in caplog.text)
            await put(url, 64)
            await until(64)
        assert not [line for line in caplog.records if line.levelname == "ERROR"]


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


async def test_a_program_without_a_loop_has_results_that_an_event_expires():
    def program(url: str, put: Callable[[object], None]) -> None:
        computed = []

        def compute() -> int:
            computed.append(threading.current_thread().name)
            return len(computed)

        with BlockingConfigManager.connect(url) as manager, manager.results(app="proxy", env="prod") as cache:

            def shown() -> int:
                return cache.get_or_compute("design_token", ("acme",), compute).value

            assert any(shown() == shown() for _ in range(10))  # the stream's opening expires them once
            before = shown()
            cache.bust("design_token")
            assert shown() == before + 1
            with pytest.raises(UnknownKind):
                cache.get_or_compute("nothing", (), compute)
            assert "cfgsync-documents" not in computed  # the manager's loop computes nothing itself

    async with serving() as there:
        await asyncio.to_thread(program, there.url, lambda content: None)


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
