"""The materializer's process, without a server around it: what is told, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.generations.generation import Prepared, checked
from cfgsync_core import CfgsyncError, MaterializationFailed, Ready
from cfgsync_runtime.cli.entry import main
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.materializer.account import Account
from cfgsync_runtime.materializer.child import ChildDecider

Application = Callable[[str], str]


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    """Write the body of a `materialize_snapshot(self, nodes)`, or a whole module; the target that names it."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> str:
        text = textwrap.dedent(text)
        if "class Mine" not in text:
            text = "class Mine:\n    def materialize_snapshot(self, nodes):\n" + textwrap.indent(
                text, " " * 8
            )
        head = "import asyncio, os, sys, time\nfrom pathlib import Path\nfrom cfgsync_adapter import *\n"
        (tmp_path / "app.py").write_text(head + text)
        return "app:Mine"

    return written


def nodes(*names: str, ip: str = "10.0.0.1") -> dict[str, NodeRegistration]:
    return {name: NodeRegistration(name, ip) for name in names}


async def said(child: ChildDecider, registrations: dict[str, NodeRegistration]) -> str:
    """The reason of a NotReady."""
    answer = (await child.decide(RegistrationSnapshot(registrations))).answer
    assert isinstance(answer, NotReady)
    return answer.reason


async def failure(child: ChildDecider, registrations: dict[str, NodeRegistration]) -> str:
    with pytest.raises(CfgsyncError) as caught:
        await child.decide(RegistrationSnapshot(registrations))
    assert isinstance(caught.value, MaterializationFailed)
    return caught.value.cause


def is_gone(pid: int) -> bool:
    """True when no such process runs; one that waits to be reaped by a stranger does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


COUNTS_NEW = """
    class Mine:
        seen = {}
        def materialize_snapshot(self, nodes):
            new = sorted(n.identifier for n in nodes if self.seen.get(n.identifier) is not n)
            gone = sorted(self.seen.keys() - set(nodes.identifiers))
            self.seen = {n.identifier: n for n in nodes}
            return NotReady(f"{len(nodes)} here, new {' '.join(new)}, gone {' '.join(gone)}")
"""


async def test_the_child_is_told_only_what_changed(application: Application) -> None:
    async with ChildDecider(application(COUNTS_NEW)) as child:
        fleet = nodes("a", "b", "c")
        assert await said(child, fleet) == "3 here, new a b c, gone "
        assert await said(child, fleet) == "3 here, new , gone "
        fleet = {**fleet, **nodes("b", ip="10.0.0.2"), **nodes("d")}
        assert await said(child, fleet) == "4 here, new b d, gone "
        fleet = {name: registration for name, registration in fleet.items() if name != "a"}
        assert await said(child, fleet) == "3 here, new , gone a"


async def test_a_fresh_process_is_told_everything(application: Application) -> None:
    target = application(COUNTS_NEW.replace("self.seen = {", "'x' in nodes and os._exit(7); self.seen = {"))
    async with ChildDecider(target) as child:
        assert await said(child, nodes("a", "b")) == "2 here, new a b, gone "
        assert await failure(child, nodes("x")) == "its process ended with exit code 7"
        assert await said(child, nodes("a", "b")) == "2 here, new a b, gone "


async def test_what_comes_back_is_what_a_thread_would_have_made(application: Application) -> None:
    body = """
        own = {n.identifier: [ArtifactFile("/id", n.identifier), ArtifactFile("/b", b"\\xff", "0600")] for n in nodes}
        return MaterializedArtifacts.from_nodes(own).with_shared([ArtifactFile("/big", "x" * 8_000_000)])
    """
    names = [f"n-{i}" for i in range(300)]
    async with ChildDecider(application(body)) as child:
        answer = (await child.decide(RegistrationSnapshot(nodes(*names)))).answer
    own = {
        n: ArtifactSet([ArtifactFile("/id", n), ArtifactFile("/b", b"\xff", "0600")]) for n in sorted(names)
    }
    here = checked(MaterializedArtifacts.from_nodes(own).with_shared([ArtifactFile("/big", "x" * 8_000_000)]))
    assert isinstance(answer, Prepared)
    assert isinstance(here, Prepared)
    assert (answer.map_key, answer.blobs) == (here.map_key, here.blobs)
    assert answer.nodes == here.nodes
    assert {n: p.extended for n, p in answer.nodes.items()} == {n: p.extended for n, p in here.nodes.items()}
    assert len({id(payload.shared) for payload in answer.nodes.values()}) == 1


async def test_what_an_unchanged_node_gets_is_not_sent_again(application: Application) -> None:
    body = """
        files = {n.identifier: [ArtifactFile("/ip", n.ip)] for n in nodes}
        return MaterializedArtifacts.from_nodes(files).with_shared([ArtifactFile("/all", "x" * 100_000)])
    """
    async with ChildDecider(application(body)) as child:
        first = (await child.decide(RegistrationSnapshot(nodes("a", "b")))).answer
        changed = {**nodes("a"), **nodes("b", ip="10.0.0.2")}
        second = (await child.decide(RegistrationSnapshot(changed))).answer
    assert isinstance(first, Prepared)
    assert isinstance(second, Prepared)
    assert second.nodes["a"].local is first.nodes["a"].local
    assert second.nodes["b"].shared is first.nodes["b"].shared
    assert second.nodes["b"].files[0].content == "10.0.0.2"
    assert first.nodes["b"].files[0].content == "10.0.0.1"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise RuntimeError('port 99999 is no port')", "port 99999 is no port"),
        ("raise KeyError", "KeyError"),
        ("breakpoint()", "breakpoint() needs a terminal: use `cfgsync serve MODULE:CLASS --debug`"),
        ("sys.exit(3)", "3"),
        ("return None", "materialize_snapshot returned NoneType, expected MaterializedArtifacts or NotReady"),
        ("return NotReady(object())", "the reason of a NotReady is text, not object"),
        ("return NotReady(5)", "the reason of a NotReady is text, not int"),
        ("return NotReady('', (), 'soon')", "retry_after is a number of seconds, not str"),
        ("raise RuntimeError('x' * 10_000)", "x" * 4000 + "…"),
        ("os.kill(os.getpid(), 11)", "its process was ended by SIGSEGV"),
        (
            "os.closerange(3, 64)",
            "its process ",
        ),  # ended, or hung up and took long to end: what is seen first
    ],
)
async def test_whatever_goes_wrong_is_a_sentence_and_the_next_run_works(
    application: Application, body: str, sentence: str
) -> None:
    target = application(f"if 'bad' not in nodes:\n    return NotReady('well')\n{body}\n")
    async with ChildDecider(target) as child:
        assert sentence in await failure(child, nodes("bad"))
        assert await said(child, nodes("good")) == "well"


async def test_what_is_printed_goes_to_stderr_and_breaks_nothing(
    application: Application, capfd: pytest.CaptureFixture[str]
) -> None:
    body = """
        print("printed " * 20_000)
        os.write(1, b"written")
        os.system("echo echoed")
        return NotReady("well")
    """
    async with ChildDecider(application(body)) as child:
        assert await said(child, nodes("a")) == "well"
    out, err = capfd.readouterr()
    assert out == ""
    assert all(word in err for word in ("printed", "written", "echoed"))


@pytest.mark.parametrize("json_logs", [False, True], ids=["text", "json"])
async def test_what_the_application_logs_has_its_level_and_what_it_prints_is_beside_it(
    application: Application, json_logs: bool
) -> None:
    target = application(
        """
        import logging, sys
        logging.basicConfig(level=logging.DEBUG, format="mine: %(message)s")
        class Mine:
            def materialize_snapshot(self, nodes):
                print("printed")
                print("no newline", end="", flush=True)
                logging.getLogger("app").debug("thought of %d", len(nodes))
                sys.stderr.write("nor here")
                sys.stderr.flush()
                logging.error("wrong")
                return NotReady("well")
        """
    )
    printed: list[str] = []
    async with ChildDecider(target, printed=printed.append, json_logs=json_logs) as child:
        assert await said(child, nodes("a")) == "well"
    lines = "\n".join(printed).splitlines()
    assert {"printed", "no newline", "nor here"} < set(lines)
    assert all(line.isprintable() for line in lines)
    if json_logs:
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        assert [(one["level"], one["logger"], one["msg"]) for one in logged] == [
            ("debug", "app", "thought of 1"),
            ("error", "root", "wrong"),
        ]
    else:
        assert any(line.endswith("Z DEBUG app: thought of 1") for line in lines)
        assert any(line.endswith("Z ERROR root: wrong") for line in lines)


async def test_output_that_is_never_read_ends_no_run(application: Application) -> None:
    stuck = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read_slowly(text: str) -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(stuck.set)

    body = "for _ in range(100):\n    print('x' * 4000)\nreturn NotReady('well')\n"
    async with ChildDecider(application(body), printed=read_slowly) as child:
        assert await said(child, nodes("a")) == "well"
        await stuck.wait()


@pytest.mark.parametrize(
    "twin",
    [
        "os.fork()",
        "import ctypes; ctypes.CDLL(None).fork()",
        "os.fork() or sys.exit(3)",
        "os.fork() or 1 / 0",
    ],
)
async def test_a_fork_that_comes_back_answers_nothing_and_reads_nothing(
    application: Application, twin: str
) -> None:
    async with ChildDecider(application(f"{twin}\nreturn NotReady(' '.join(nodes.identifiers))\n")) as child:
        fleet: dict[str, NodeRegistration] = {}
        for name in "abcdef":
            fleet = {**fleet, **nodes(name)}
            assert await said(child, fleet) == " ".join(fleet)


async def test_a_module_that_forks_when_it_is_loaded_is_loaded_once(application: Application) -> None:
    target = application(
        """
        os.fork()
        class Mine:
            def materialize_snapshot(self, nodes):
                return NotReady(" ".join(nodes.identifiers))
        """
    )
    async with ChildDecider(target) as child:
        for many in (1, 2, 3):
            names = "abc"[:many]
            assert await said(child, nodes(*names)) == " ".join(names)


async def test_a_second_and_a_late_answer_are_dropped_and_logged(
    application: Application, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("cfgsync"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("cfgsync"), "handlers", [caplog.handler])
    target = application(
        """
        import socket
        from cfgsync_runtime.materializer.messages import Blobs, NotYet, framed
        class Mine:
            runs = 0
            def materialize_snapshot(self, nodes):
                self.runs += 1
                late = [Blobs(self.runs - 1, [("stray", b"x")]), NotYet(self.runs - 1, NotReady("late"), 0.0)]
                line = socket.socket(fileno=os.dup(int(sys.argv[1])))
                line.sendall(b"".join(map(framed, late)))
                return NotReady(f"run {self.runs}")
        """
    )
    async with ChildDecider(target) as child:
        for run in (1, 2, 3):
            assert await said(child, nodes("a")) == f"run {run}"
    dropped = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert dropped == [
        f"the materializer's process answered run {run} again; that answer is dropped" for run in (0, 1, 2)
    ]


async def test_a_failure_has_the_frames_of_the_application_and_no_others(application: Application) -> None:
    target = application(
        """
        class MineInside:
            async def materialize_snapshot(self, nodes):
                try:
                    return self.port({})
                except KeyError as error:
                    raise ValueError("no port") from error
            def port(self, found):
                return found["port"]
        def Mine():
            return Quorum(MineInside(), at_least=1)
        """
    )
    async with ChildDecider(target) as child:
        with pytest.raises(MaterializationFailed) as failed:
            await child.decide(RegistrationSnapshot(nodes("a")))
    trace, at = failed.value.trace, failed.value.at
    assert at.startswith("ValueError in app.py, line ")
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("ValueError: no port")
    assert "KeyError: 'port'" in trace
    files = [line for line in trace.splitlines() if line.startswith("  File ")]
    assert [line.rpartition(", in ")[2] for line in files] == [
        "materialize_snapshot",
        "port",
        "materialize_snapshot",
    ]
    assert all("app.py" in line for line in files)


async def test_a_failure_that_is_not_in_the_application_has_no_traceback(application: Application) -> None:
    async with ChildDecider(application("return None")) as child:
        with pytest.raises(MaterializationFailed) as failed:
            await child.decide(RegistrationSnapshot(nodes("a")))
    assert failed.value.trace == ""


async def test_a_run_that_is_given_up_is_ended_with_all_that_it_started(
    application: Application, tmp_path: Path
) -> None:
    body = """
        if "bad" not in nodes:
            return NotReady("well")
        there = os.fork() or time.sleep(600)
        Path("pids").write_text(f"{os.getpid()} {there}")
        while True:
            pass
    """
    async with ChildDecider(application(body)) as child:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await child.decide(RegistrationSnapshot(nodes("bad")))
        assert await said(child, nodes("good")) == "well"
        assert time.monotonic() - began < 5
        mine, there = map(int, (tmp_path / "pids").read_text().split())
        assert is_gone(mine)
        assert is_gone(there)


async def test_a_grandchild_that_holds_the_socket_does_not_make_a_dead_child_seem_alive(
    application: Application,
) -> None:
    async with ChildDecider(application("os.fork() or time.sleep(600)\nos._exit(3)\n")) as child:
        began = time.monotonic()
        assert await failure(child, nodes("a")) == "its process ended with exit code 3"
        assert time.monotonic() - began < 5


async def test_an_idle_child_ends_by_itself_and_its_exit_handlers_run(
    application: Application, tmp_path: Path
) -> None:
    target = application(
        """
        import atexit
        atexit.register(lambda: Path("said").write_text("goodbye"))
        class Mine:
            def materialize_snapshot(self, nodes):
                return NotReady(str(os.getpid()))
        """
    )
    async with ChildDecider(target) as child:
        pid = int(await said(child, nodes("a")))
    assert is_gone(pid)
    assert (tmp_path / "said").read_text() == "goodbye"


async def test_an_async_materializer_has_an_event_loop_that_is_kept(application: Application) -> None:
    target = application(
        """
        class Mine:
            loop = None
            async def materialize_snapshot(self, nodes):
                await asyncio.sleep(0)
                self.loop, before = asyncio.get_running_loop(), self.loop
                return NotReady(str(self.loop is before))
        """
    )
    async with ChildDecider(target) as child:
        assert [await said(child, nodes("a")) for _ in range(3)] == ["False", "True", "True"]


async def test_readiness_rules_and_caches_work_there_as_they_do_here(application: Application) -> None:
    target = application(
        """
        class Draws:
            revision = "image-7"
            def materialize_snapshot(self, nodes):
                key = os.urandom(8).hex()
                return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/k", key)] for n in nodes})

        def Mine():
            return CachedSnapshotMaterializer(Quorum(Draws(), at_least=2, settle=0.3))

        class MineToo: pass
        """
    )
    async with ChildDecider(target) as child:
        assert child.revision == "image-7"
        async with RegistrationConfigSource(decider=child) as source:
            began = time.monotonic()
            for registration in nodes("a", "b").values():
                await source.register(registration)
            ready = await source.resolve("a", wait=10)
            assert isinstance(ready, Ready)
            assert 0.29 < time.monotonic() - began < 5
            generation = source.generation
            assert generation is not None
        cut = RegistrationSnapshot(
            nodes("a", "b"), first_at=time.monotonic() - 9, changed_at=time.monotonic() - 9
        )
        again = (await child.decide(cut)).answer
        assert isinstance(again, Prepared)
        assert again.map_key == generation.map_key


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("class MineToo: pass", "app:Mine: there is no Mine in app", "did you mean"),
        ("class Mine: pass", "app:Mine: the class has no method materialize_snapshot", "give it `def"),
        ("1 / 0\nclass Mine: ...", "importing app failed: ", "app.py:4"),
        (
            "class Mine:\n    def __new__(cls): return Quorum(NotReady, expected='a')\n    materialize_snapshot = print",
            "app:Mine failed when it was called: ",
            "app.py:5",
        ),
        (
            "os._exit(9)\nclass Mine: ...",
            "loading app:Mine ended its process: ended with exit code 9",
            "import it in Python to see why",
        ),
    ],
)
async def test_what_cannot_be_loaded_is_two_lines(
    application: Application, text: str, what: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        async with ChildDecider(application(text)):
            pass
    assert str(caught.value).startswith(what)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("raise OSError('hunter2')\nclass Mine: ...", "OSError in app.py, line 4"),
        ("hunter2 = (\nclass Mine: ...", "SyntaxError in app.py, line 4"),
        ("import no_hunter2\nclass Mine: ...", "ModuleNotFoundError in app.py, line 4"),
        (
            "class Mine:\n    def __init__(self): raise KeyError('hunter2')\n    materialize_snapshot = print",
            "KeyError in app.py, line 5",
        ),
    ],
)
async def test_a_program_that_cannot_be_loaded_again_is_told_by_type_and_place(
    application: Application, text: str, at: str
) -> None:
    async with ChildDecider(
        application("class Mine:\n    def materialize_snapshot(self, nodes): os._exit(3)\n")
    ) as child:
        await failure(child, nodes("a"))
        application(text)
        with pytest.raises(MaterializationFailed) as caught:
            await child.decide(RegistrationSnapshot(nodes("a")))
    assert str(caught.value) == f"failed to materialize config snapshot: it cannot be loaded again: {at}"
    assert "hunter2" in caught.value.cause or "Syntax" in at


async def test_what_an_application_raises_is_told_by_type_and_place(application: Application) -> None:
    text = "class Mine:\n    async def materialize_snapshot(self, nodes):\n        raise OSError('hunter2')\n"
    async with ChildDecider(application(text)) as child:
        with pytest.raises(MaterializationFailed, match=r": OSError in app\.py, line 6$") as caught:
            await child.decide(RegistrationSnapshot(nodes("a")))
    assert caught.value.cause == "hunter2"


async def test_a_program_that_was_exchanged_on_disk_is_not_taken_up_without_a_claim(
    application: Application,
) -> None:
    text = "class Mine:\n    revision = '1'\n    def materialize_snapshot(self, nodes): os._exit(3)\n"
    async with ChildDecider(application(text)) as child:
        assert await failure(child, nodes("a")) == "its process ended with exit code 3"
        application(text.replace("'1'", "'two'"))
        assert await failure(child, nodes("a")) == (
            "it was loaded again with revision 'two', and this server runs revision '1': restart the server"
        )
        os.unlink("app.py")
        assert (await failure(child, nodes("a"))).startswith(
            "it cannot be loaded again: no module named app;"
        )


LOADS_SLOWLY = """
    time.sleep(float(os.environ["LOADS_FOR"]))
    Path("loading").write_text(str(os.getpid()))
    time.sleep(float(os.environ["LOADS_FOR"]))
    class Mine:
        def materialize_snapshot(self, nodes):
            if "bad" in nodes:
                os._exit(3)
            return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", n.ip)] for n in nodes})
"""


async def test_loading_again_takes_nothing_of_the_time_that_a_run_has(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = 1.0
    monkeypatch.setenv("LOADS_FOR", "0")
    async with ChildDecider(application(LOADS_SLOWLY)) as child:
        async with RegistrationConfigSource(decider=child, run_timeout=timeout) as source:
            await source.register(NodeRegistration("bad", "10.0.0.1"))
            with pytest.raises(MaterializationFailed, match="its process ended with exit code 3"):
                await source.resolve("bad", wait=20)
        monkeypatch.setenv("LOADS_FOR", str(timeout))
        began = time.monotonic()
        async with RegistrationConfigSource(decider=child, run_timeout=timeout) as source:
            await source.register(NodeRegistration("good", "10.0.0.1"))
            assert isinstance(await source.resolve("good", wait=20), Ready)
        assert time.monotonic() - began > 2 * timeout


async def test_loading_again_has_an_end_of_its_own(
    application: Application, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOADS_FOR", "0")
    async with ChildDecider(application(LOADS_SLOWLY), load_within=3.0) as child:
        assert await failure(child, nodes("bad")) == "its process ended with exit code 3"
        (tmp_path / "loading").unlink()
        application(LOADS_SLOWLY.replace('time.sleep(float(os.environ["LOADS_FOR"]))', "", 1))
        monkeypatch.setenv("LOADS_FOR", "600")
        words = await failure(child, nodes("good"))  # 3 s, or twice what the first time took
        assert re.fullmatch(r"loading it again took over \d+(\.\d)? s", words)
        loading = int((tmp_path / "loading").read_text())
        monkeypatch.setenv("LOADS_FOR", "0")
        assert isinstance((await child.decide(RegistrationSnapshot(nodes("good")))).answer, Prepared)
        assert is_gone(loading)


async def test_an_application_that_loads_slowly_has_as_long_again(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADS_FOR", "0.5")
    async with ChildDecider(application(LOADS_SLOWLY), load_within=0.1) as child:
        assert await failure(child, nodes("bad")) == "its process ended with exit code 3"
        assert isinstance((await child.decide(RegistrationSnapshot(nodes("good")))).answer, Prepared)


def test_a_snapshot_knows_what_changed_since_an_earlier_one() -> None:
    fleet = nodes(*(f"n-{i}" for i in range(5000)))
    before, after = RegistrationSnapshot(fleet), RegistrationSnapshot({**fleet, **nodes("n-7", "new")})
    changed, gone = after.changes_since(before)
    assert ([r.identifier for r in changed], gone) == (["n-7", "new"], [])
    assert before.changes_since(after)[1] == ["new"]
    assert after.changes_since(after) == ([], [])


async def test_a_shrink_that_is_meant_is_meant_through_the_process_too(application: Application) -> None:
    target = application("""
        made = MaterializedArtifacts.from_nodes({n: [ArtifactFile("/a", "")] for n in nodes.identifiers})
        return made.accept_shrink() if len(nodes) > 1 else made
    """)
    async with ChildDecider(target) as child:
        for names in (("a",), ("a", "b")):
            answer = (await child.decide(RegistrationSnapshot(nodes(*names)))).answer
            assert isinstance(answer, Prepared)
            assert answer.accepts_shrink is (len(names) > 1)


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_the_child_has_no_descriptor_and_no_variable_of_the_server(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """uvloop, which `cfgsync serve` runs on, closes nothing that the server has inherited."""
    monkeypatch.setenv("CFGSYNC_SERVE_STORE", "sqlite:canary.db")
    monkeypatch.setenv("CFGSYNC_SERVE_SIGNING_KEY", "canary.key")
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("PGPASSFILE", "canary")
    monkeypatch.setenv("APPLICATION", "its own")
    target = application(
        """
        listed = os.listdir("/proc/self/fd")
        links = [os.readlink(f"/proc/self/fd/{n}") for n in listed if os.path.exists(f"/proc/self/fd/{n}")]
        ours = [name for name in os.environ if name.startswith(("CFG", "PG"))]
        return NotReady(f"{sorted(link.split(':')[0] for link in links)} {ours} {os.environ['APPLICATION']}")
        """
    )

    loops = pytest.importorskip(library).new_event_loop

    async def reason_of_the_child() -> str:
        async with ChildDecider(target) as child:
            return await said(child, nodes("a"))

    with open(tmp_path / "canary", "w") as canary, asyncio.Runner(loop_factory=loops) as runner:
        os.set_inheritable(canary.fileno(), True)  # as one that a shell or a service manager passes on
        reason = runner.run(reason_of_the_child())
    assert reason == "['/dev/null', 'pipe', 'pipe', 'pipe', 'socket'] [] its own"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process as another user")
async def test_a_process_of_another_user_has_its_rights_and_no_way_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = Account.of("nobody")
    with tempfile.TemporaryDirectory() as place:  # pytest's own are closed to other users
        os.chmod(place, 0o755)
        monkeypatch.chdir(place)
        Path("app.py").write_text(
            AS_NOBODY
        )  # it imports only what is loaded: this Python may lie in root's home
        Path("store.db").touch(0o600)
        async with ChildDecider("app:Mine", account=account) as child:
            reason = await said(child, nodes("a"))
    ids = [account.uid] * 3 + [account.gid] * 3 + sorted(account.groups)
    assert (
        reason
        == f"{ids} nobody {account.home} store.db: permission denied; setresuid: operation not permitted"
    )


AS_NOBODY = """
import os
from cfgsync_adapter import NotReady

def refusal(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.strerror.lower()
    return "done"

class Mine:
    def materialize_snapshot(self, nodes):
        ids = [*os.getresuid(), *os.getresgid(), *sorted(os.getgroups())]
        reads = f"store.db: {refusal(open, 'store.db')}; setresuid: {refusal(os.setresuid, 0, 0, 0)}"
        return NotReady(f"{ids} {os.environ['USER']} {os.environ['HOME']} {reads}")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process as another user")
async def test_what_another_user_cannot_read_is_refused_and_the_hint_says_so(
    application: Application,
) -> None:
    target = application("return NotReady()")  # in a directory of pytest's, which is closed to other users
    with pytest.raises(InputError) as caught:
        async with ChildDecider(target, account=Account.of("nobody")):
            pass
    assert "; user nobody must be able to read the module, its directory, " in caught.value.hint


def test_an_account_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="there is no user 'no-such-user' on this machine"):
        Account.of("no-such-user")


PERSISTS = """
    class Inner:
        def materialize_snapshot(self, nodes):
            return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", "x")] for n in nodes})

    class Mine:
        hidden = PersistingSnapshotMaterializer(Quorum(Inner(), at_least=1), DirectorySink("kept"))
        def materialize_snapshot(self, nodes):
            return self.hidden.materialize_snapshot(nodes)
"""
RECORDED = {
    "cfgsync_snapshot": 1,
    "taken_at": "",
    "version": "0199a3c2-7d00-7000-8000-000000000000.1",
    "generation": None,
    "registrations": [{"identifier": "a", "ip": "10.0.0.1"}],
    "shared": [],
    "nodes": [],
}


def test_check_writes_nothing_also_where_a_class_hides_what_persists(application, tmp_path, capsys):
    target = application(PERSISTS)
    (tmp_path / "fleet.json").write_text(json.dumps(RECORDED))
    with pytest.raises(SystemExit) as ended:
        main(["check", target, "--snapshot", "fleet.json"])
    assert (ended.value.code, "+ a" in capsys.readouterr().out) == (1, True)
    assert not (tmp_path / "kept").exists()


async def test_a_run_that_is_served_is_persisted(application, tmp_path):
    async with ChildDecider(application(PERSISTS)) as child:
        await child.decide(RegistrationSnapshot(nodes("a")))
    assert (tmp_path / "kept" / "current" / "index.txt").read_text() == "1\ta\n"
