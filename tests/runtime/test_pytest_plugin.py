"""The pytest plugin, run as its users run it: in a pytest of its own, under every plugin that it must get along with."""

import os
import subprocess
import sys
import textwrap
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

APPLICATION = """
    from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, NotReady

    class Application:
        def materialize_snapshot(self, registrations):
            if len(registrations) < 2:
                return NotReady("waiting for a second node")
            names = " ".join(node.identifier for node in registrations)
            return MaterializedArtifacts.from_nodes(
                {node.identifier: [ArtifactFile("/names", names)] for node in registrations}
            )
"""

SYNC = """
    from application import Application

    def test_a_bundle(cfgsync_bundle):
        server = cfgsync_bundle({"node-1": {"/config.yaml": "id: node-1"}})
        assert server.files("node-1") == {"/config.yaml": "id: node-1"}

    def test_a_materializer(cfgsync_server):
        server = cfgsync_server(Application())
        server.register("node-2")
        assert server.files("node-1") == {"/names": "node-1 node-2"}

    def test_a_fleet(cfgsync_fleet):
        fleet = cfgsync_fleet(Application(), 2)
        assert fleet["node-1"].read("/names") == "node-1 node-2"

    def test_several_of_everything(cfgsync_bundle, cfgsync_server, cfgsync_fleet):
        servers = [cfgsync_bundle({}), cfgsync_bundle({}), cfgsync_server(Application), cfgsync_server(Application)]
        one, other = cfgsync_fleet(servers[2], 2), cfgsync_fleet(Application, ["a", "b"])
        assert len({server.port for server in [*servers, other.server]}) == 5
        assert (one["node-1"].read("/names"), other["a"].read("/names")) == ("node-1 node-2", "a b")
"""

ASYNC = """
    import asyncio
    import pytest
    import pytest_asyncio
    from application import Application
    from cfgsync_core import CfgsyncClient, NodeRegistration

    async def boots(server):
        async with CfgsyncClient(server.url) as client:
            both = [NodeRegistration(name, "127.0.0.1") for name in ("a", "b")]
            return await asyncio.gather(*(client.register_and_fetch(one) for one in both))

    @pytest_asyncio.fixture
    async def server(cfgsync_server):
        yield cfgsync_server(Application)

    @pytest.mark.asyncio
    async def test_a_client_in_the_loop_of_the_test(server):
        assert [payload.files[0].content for payload in await boots(server)] == ["a b", "a b"]

    @pytest.mark.asyncio
    async def test_a_fleet_that_a_test_with_a_loop_waits_for(cfgsync_fleet):
        assert cfgsync_fleet(Application, 2)["node-2"].read("/names") == "node-1 node-2"
"""

AIOHTTP = """
    import aiohttp
    from aiohttp import web

    async def test_a_service_of_aiohttp_that_asks_cfgsync(aiohttp_client, cfgsync_bundle):
        server = cfgsync_bundle({"node-1": {"/config.yaml": "id: node-1"}})

        async def hello(request):
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{server.url}/node", json={"identifier": "node-1", "ip": "127.0.0.1"}) as answer:
                    return web.json_response(await answer.json())

        service = web.Application()
        service.router.add_get("/", hello)
        client = await aiohttp_client(service)
        answer = await client.get("/")
        assert (await answer.json())["files"] == [{"path": "/config.yaml", "content": "id: node-1"}]
"""


@pytest.fixture
def run_pytest(tmp_path):
    """Run a pytest with our plugin and the named ones, and no other; warnings are errors. Its exit code and output."""

    def run(
        *arguments: str, plugins: tuple[str, ...] = (), settings: str = "", **files: str
    ) -> tuple[int, str]:
        for name, text in {"application": APPLICATION, **files}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        (tmp_path / "pytest.ini").write_text(
            f"[pytest]\nfilterwarnings = error\npythonpath = .\n{settings}\n"
        )
        loaded = [word for name in ("cfgsync_runtime.pytest_plugin", *plugins) for word in ("-p", name)]
        completed = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *loaded, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        return completed.returncode, completed.stdout

    return run


def test_the_distribution_offers_it_to_pytest():
    project = tomllib.loads((ROOT / "packages/cfgsync_runtime/pyproject.toml").read_text())["project"]
    (module,) = project["entry-points"]["pytest11"].values()
    plugin = import_module(module)
    assert {"cfgsync_bundle", "cfgsync_server", "cfgsync_fleet"} <= set(dir(plugin))


# ── what it costs who does not use it ────────────────────────────────────────────────────────────────────────────────

LOADING = """
    import pytest, sys, time
    before = set(sys.modules)
    began = time.process_time()
    import cfgsync_runtime.pytest_plugin
    spent = time.process_time() - began
    print(spent, *sorted(set(sys.modules) - before))
"""


def test_loading_it_loads_pytest_and_two_doors_in_less_than_20_ms():
    spent = []
    for _ in range(5):
        printed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(LOADING)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert printed[1:] == [
            *(
                "cfgsync_artifacts",
                "cfgsync_artifacts.door",
                "cfgsync_runtime",
                "cfgsync_runtime.pytest_plugin",
            )
        ]
        spent.append(float(printed[0]))
    assert min(spent) < 0.020  # the machine may be busy; what it costs is the least of five


WATCHER = """
    import sys, threading

    opened = []
    sys.addaudithook(lambda event, _: opened.append(event) if event.startswith("socket.") else None)

    def pytest_unconfigure(config):
        ours = sorted(name for name in sys.modules if name.startswith("cfgsync") and "." in name)
        print("opened", opened, "loop", "asyncio" in sys.modules, "threads", threading.active_count(), *ours)
"""


def test_a_session_without_tests_of_cfgsync_opens_no_socket_and_starts_no_loop(run_pytest):
    code, printed = run_pytest("-p", "watcher", watcher=WATCHER, test_other="def test_other(tmp_path): pass")
    assert code == 0, printed
    last = printed.splitlines()[-1]
    assert last == "opened [] loop False threads 1 cfgsync_artifacts.door cfgsync_runtime.pytest_plugin"


def test_the_watcher_would_have_seen_a_socket_and_a_loop(run_pytest):
    code, printed = run_pytest(
        "-p",
        "watcher",
        watcher=WATCHER,
        test_ours="def test_ours(cfgsync_bundle): assert cfgsync_bundle({}).port",
    )
    assert code == 0, printed
    last = printed.splitlines()[-1]
    assert "socket.bind" in last
    assert "loop True threads 1 " in last


NODE_ONLY = """
    import sys

    class WithoutTheServer:
        def find_spec(self, name, path=None, target=None):
            if name in ("aiohttp", "pydantic"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, WithoutTheServer())
"""


def test_where_only_a_node_is_installed_it_says_in_one_line_what_is_missing(run_pytest):
    code, printed = run_pytest(conftest=NODE_ONLY, test_ours="def test_ours(cfgsync_fleet): pass")
    assert code == 1, printed
    (line,) = (line for line in printed.splitlines() if line.startswith("cfgsync's fixtures need "))
    assert line.endswith(
        ", which a node does not have: install cfgsync too, from the checkout (pip install CHECKOUT/packages/*) or the"
        " wheels (docs/install.md)"
    )
    assert "Traceback" not in printed
    assert "pytest_plugin.py" not in printed


# ── whom it gets along with ──────────────────────────────────────────────────────────────────────────────────────────

PYTEST_ASYNCIO = "asyncio_default_fixture_loop_scope = function\nasyncio_mode = {}"


def test_plain_tests_need_no_other_plugin(run_pytest):
    code, printed = run_pytest(test_sync=SYNC)
    assert code == 0, printed
    assert "4 passed" in printed


def test_workers_of_xdist_do_not_meet(run_pytest):
    code, printed = run_pytest("-n", "2", plugins=("xdist.plugin", "xdist.looponfail"), test_sync=SYNC)
    assert code == 0, printed
    assert "4 passed" in printed


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_async_tests_of_pytest_asyncio_use_it_in_both_modes(run_pytest, mode):
    code, printed = run_pytest(
        plugins=("pytest_asyncio.plugin",),
        settings=PYTEST_ASYNCIO.format(mode),
        test_sync=SYNC,
        test_async=ASYNC,
    )
    assert code == 0, printed
    assert "6 passed" in printed


def test_async_tests_of_pytest_aiohttp_use_it(run_pytest):
    code, printed = run_pytest(
        plugins=("pytest_asyncio.plugin", "aiohttp.pytest_plugin", "pytest_aiohttp.plugin"),
        settings=PYTEST_ASYNCIO.format("auto"),
        test_sync=SYNC,
        test_aiohttp=AIOHTTP,
    )
    assert code == 0, printed
    assert "5 passed" in printed


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────

FAILING = """
    import signal, socket, threading, time
    import pytest
    from application import Application

    ports = []

    def test_that_fails(cfgsync_server, cfgsync_fleet):
        ports.append(cfgsync_server(Application).port)
        ports.append(cfgsync_fleet(Application, 2).server.port)
        assert ports == []

    def test_that_is_interrupted_while_a_node_waits(cfgsync_server, monkeypatch):
        server = cfgsync_server(Application)
        ports.append(server.port)
        main = threading.main_thread().ident

        def press_ctrl_c_when_the_node_waits():
            while not server.status().registered:
                time.sleep(0.01)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=press_ctrl_c_when_the_node_waits).start()
        with pytest.raises(KeyboardInterrupt):
            server.files("node-1", wait=90)
        assert server.status().registered == 1

    def test_that_nothing_is_left_of_them():
        assert [one.name for one in threading.enumerate() if one.name == "cfgsync-server"] == []
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        assert len(ports) == 3
"""


def test_what_a_failed_or_interrupted_test_has_started_ends_with_it(run_pytest):
    code, printed = run_pytest(test_failing=FAILING)
    assert code == 1, printed
    assert "1 failed, 2 passed" in printed


DEFECTS = """
    import pytest
    from application import Application

    class Defect:
        def materialize_snapshot(self, registrations):
            raise KeyError("no-such-port")  # the line to mend

    def test_a_defect(cfgsync_fleet):
        cfgsync_fleet(Defect, 2)

    def test_a_fleet_too_small(cfgsync_fleet):
        cfgsync_fleet(Application, 1, wait=1)

    def test_a_class_that_is_none(cfgsync_server):
        cfgsync_server(ValueError)
"""


def test_a_failure_shows_the_line_of_the_application_and_none_of_ours(run_pytest):
    code, printed = run_pytest(test_defects=DEFECTS)
    assert code == 1
    assert ">       cfgsync_fleet(Defect, 2)" in printed
    assert '>       raise KeyError("no-such-port")  # the line to mend' in printed
    assert (
        "FleetNotBooted: 2 of 2 nodes have no files; the materializer raised KeyError: 'no-such-port'"
        in printed
    )
    assert "1 of 1 node has no files; node-1: not ready after 1 s: waiting for a second node" in printed
    assert "ValueError: the class has no method materialize_snapshot" in printed
    assert "give it `def materialize_snapshot(self, registrations)`" in printed
    assert "def _booted" not in printed
