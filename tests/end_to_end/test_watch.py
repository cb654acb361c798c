"""`cfgsync fetch --watch` as it is run: files, command, signals, service manager, a server that comes and goes."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile
from cfgsync_core.store.epoch import uuid7
from tests.chaos.form import LONG
from tests.processes import PATIENCE, Place, Server, body, ended, eventually
from tests.scripted_server import Act, Cut, Heard, Says, ScriptedServer, files

HERE = Path(__file__).parent
COMMAND = """
trap 'echo hup >> {log}' HUP
trap 'echo term >> {log}; exit 3' TERM
echo start $(cat {file}) >> {log}
while :; do sleep 0.02; done
"""


def serve(place: Place, *flags: str, port: int = 0, store: str = "") -> Server:
    url = store or f"sqlite:{place.directory / 'store.db'}"
    return place.serve("watched:Told", "--store", url, *flags, port=port, cwd=HERE)


def say(server: Server, **words: str) -> None:
    """The boss tells nodes what to hold: a commit, and what the materializer makes of it."""
    assert server.ask("POST", "/register", body("boss", words)).status == 202
    eventually(lambda: not server.status()["pending"])


class Watch:
    """A `fetch --watch` of one node, with a command that notes its starts and signals, and has proved a change at once unless
    `flags` say otherwise."""

    def __init__(self, place: Place, url: str, name: str, *flags: str, command: bool = True,
                 environment: dict[str, str] | None = None) -> None:  # fmt: skip
        self.log = place.directory / f"{name}.log"
        self.file = place.current(name) / "text"
        words = ["--", "sh", "-c", COMMAND.format(log=self.log, file=self.file)] if command else []
        flags = ("--healthy-after", "0", *flags) if command else flags
        self.process, self.errors = place.start(
            *place.fetching(url, name, "--watch", *flags, *words), environment=environment
        )

    @property
    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def text(self) -> str:
        try:
            return self.file.read_text().strip()
        except FileNotFoundError:
            return ""

    @property
    def notes(self) -> str:
        return self.errors.read_text()

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sent)
        return self.process.wait(PATIENCE)


def test_files_and_command_move_when_this_nodes_payload_changes_and_only_then(place: Place) -> None:
    server = serve(place)
    say(server, a="one", b="one")
    a, b = Watch(place, server.url, "a"), Watch(place, server.url, "b", "--reload", "HUP")
    eventually(lambda: a.said == b.said == ["start one"])
    inode = a.file.stat().st_ino
    say(server, a="one", b="two")
    eventually(lambda: b.said == ["start one", "hup"])
    assert b.text == "two"
    say(server, a="two", b="two")
    eventually(lambda: a.said == ["start one", "term", "start two"])
    assert a.file.stat().st_ino != inode
    newest = server.status()["generation"]
    eventually(lambda: [server.status(name)["applied"] for name in "ab"] == [newest, newest])
    assert b.said == ["start one", "hup"], "its payload had not changed"
    assert [server.status(name)["keepalive"] for name in ("a", "boss")] == [60, None]
    eventually(lambda: "a: 1 file in place of generation" in a.notes)
    assert (a.stop(), b.stop()) == (3, 3)
    assert json.loads(a.process.stdout.read())["status"] == "ready"  # type: ignore[union-attr]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_without_a_command_a_signal_ends_it(place: Place, sent: signal.Signals, code: int) -> None:
    server = serve(place)
    watch = Watch(place, server.url, "a", command=False)
    eventually(lambda: watch.text == "nothing" and server.status("a")["waiting"])  # its question is held
    began = time.monotonic()
    assert watch.stop(sent) == code
    assert time.monotonic() - began < 10, "it waited for the question that is held"


def test_a_command_that_ends_ends_the_watch_with_its_code(place: Place) -> None:
    server = serve(place)
    done = place.run(*place.fetching(server.url, "a", "--watch", "--", "sh", "-c", "exit 9"))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (9, "a: sh ended with exit code 9")
    assert server.status("a")["last_failure"].endswith(": program ended with exit code 9 after its start")
    killed = place.run(*place.fetching(server.url, "a", "--watch", "--", "sh", "-c", "kill -KILL $$"))
    assert (killed.returncode, killed.stderr.splitlines()[-1]) == (137, "a: sh ended by SIGKILL")
    assert place.run(*place.fetching(server.url, "a", "--watch", "--", "no-such-command")).returncode == 127


def test_the_command_does_not_outlive_a_killed_fetch(place: Place) -> None:
    server = serve(place)
    log = place.directory / "pid"
    script = f"echo $$ > {log}.tmp; mv {log}.tmp {log}; exec sleep 1000"
    process, _ = place.start(*place.fetching(server.url, "a", "--watch", "--", "sh", "-c", script))
    eventually(log.exists)
    pid = int(log.read_text())
    process.kill()
    process.wait(PATIENCE)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(gone)


def test_a_node_with_a_cache_and_no_server_starts_degraded_and_becomes_current_by_itself(
    place: Place,
) -> None:
    server = serve(place)
    say(server, a="one")
    assert ended(place.fetch(server.url, "a"))[0] == 0
    server.kill()
    began = time.monotonic()
    watch = Watch(place, server.url, "a", "--startup-mode", "degraded", "--wait", "1")
    eventually(lambda: watch.said == ["start one"])
    took = time.monotonic() - began
    print(f"degraded after {took:.2f} s with --wait 1")
    assert took >= 0.7, "--wait was not waited for (the last question has a quarter second)"
    assert took < 1 + (1 if LONG else 10), "--wait and a second; in the short form a busy machine"
    eventually(lambda: "warning: a: degraded: 1 file in place from the cache" in watch.notes)
    server = serve(place, port=server.port)
    eventually(lambda: "no longer degraded" in watch.notes)
    assert watch.said == ["start one"], "unchanged files restart nothing"
    say(server, a="two")
    eventually(lambda: watch.said[-1] == "start two")
    assert watch.stop() == 3
    said = json.loads(watch.process.stdout.read())  # type: ignore[union-attr]
    assert (said["status"], said["reason"]) == ("degraded", "loaded_cached_snapshot")


def test_with_a_corrupted_cache_nothing_starts_and_nothing_is_written(place: Place) -> None:
    server = serve(place)
    assert ended(place.fetch(server.url, "a"))[0] == 0
    server.kill()
    payload = place.directory / "state/a/payload"
    payload.write_bytes(payload.read_bytes()[:-1])
    out = str(place.directory / "elsewhere")
    done = place.run(
        *place.fetching(server.url, "a", "--startup-mode", "degraded", "--wait", "0.5", "--watch", out=out),
        "--", "touch", str(place.directory / "started"),
    )  # fmt: skip
    assert done.returncode == 7
    assert json.loads(done.stdout)["reason"] == "bootstrap_failed_no_cached_snapshot"
    assert "damaged" in done.stderr
    assert not Path(out).exists()
    assert not (place.directory / "started").exists()


def test_a_server_that_forgot_everyone_is_registered_with_again_and_its_newer_epoch_is_taken(
    place: Place,
) -> None:
    server = serve(place, store="memory:")
    say(server, a="one")
    watch = Watch(place, server.url, "a")
    eventually(lambda: watch.said == ["start one"])
    server.kill()
    server = serve(place, port=server.port, store="memory:")
    say(server, a="two")
    eventually(lambda: watch.said[-1] == "start two")
    assert server.status("a")["registered"]
    eventually(lambda: server.status("a")["applied"] == server.status()["generation"])
    eventually(lambda: "a new epoch has begun" in watch.notes)
    assert watch.stop() == 3


def test_a_target_that_becomes_read_only_keeps_the_old_files_and_is_tried_again(place: Place) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("NOT TESTED: a read-only disk needs root and `unshare -m`")
    server = serve(place)
    say(server, a="one")
    out = place.directory / "disk"
    out.mkdir()
    errors = (place.directory / "errors").open("w+")
    script = f'mount -t tmpfs tmpfs {out} && exec "$@"'
    cfgsync = str(Path(os.sys.executable).parent / "cfgsync")  # type: ignore[attr-defined]
    process = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", cfgsync,
         *place.fetching(server.url, "a", "--watch", out=str(out))],
        cwd=place.directory, env=place.environment(), stderr=errors, stdout=subprocess.DEVNULL,
    )  # fmt: skip

    def inside(*words: str) -> str:
        done = subprocess.run(
            ["nsenter", "-t", str(process.pid), "-m", *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def notes() -> str:
        return (place.directory / "errors").read_text()

    try:
        eventually(lambda: inside("cat", f"{out}/current/text") == "one")
        inside("mount", "-o", "remount,ro", str(out))
        say(server, a="two")
        eventually(lambda: "Read-only file system" in notes())
        eventually(lambda: "Read-only file system" in (server.status("a")["last_failure"] or ""))
        eventually(lambda: "the old files stay" in notes())
        lines = [line for line in notes().splitlines() if "cannot write" in line or "the old files" in line]
        assert "could not be applied: cannot write" in lines[0]
        assert lines[1:] == [
            "a: the old files stay; cfgsync will try again: make the file system writable, or choose another place"
        ]
        say(server, a="three")
        time.sleep(1)
        assert inside("cat", f"{out}/current/text") == "one"
        assert process.poll() is None
        inside("mount", "-o", "remount,rw", str(out))
        eventually(lambda: inside("cat", f"{out}/current/text") == "three")
        eventually(lambda: server.status("a")["last_failure"] is None)
        assert inside("sh", "-c", f"ls {out}/.generations").count("stage") == 0
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        errors.close()


def test_an_acknowledgement_of_the_boot_that_got_lost_is_sent_again_by_the_watch(place: Place) -> None:
    """Else `status --wait-applied` would wait for ever for a node that has everything."""
    acks: list[bytes] = []
    generation = f"{uuid7(2_000_000)}.1"

    def answers(heard: Heard) -> Act:
        if heard.path == "/register":
            return Says(202)
        if heard.path == "/ack":
            acks.append(heard.body)
            return Cut() if len(acks) == 1 else Says(204)
        made = files([ArtifactFile("/text", "one\n")], generation)
        if heard.headers.get("if-none-match") == made.headers["ETag"]:
            held = 0.5 if "prefer" in heard.headers else 0.0
            return Says(
                304, headers={k: v for k, v in made.headers.items() if k != "Content-Type"}, after=held
            )
        return made

    with ScriptedServer(answers) as server:
        watch = Watch(place, server.url, "a", command=False)
        eventually(lambda: len(acks) >= 2, within=20)
        assert watch.stop() == 0
    assert len(set(acks)) == 1
    assert watch.text == "one"


def test_a_disk_that_refuses_keeps_the_old_files_is_seen_in_status_and_the_next_change_is_tried(
    place: Place,
) -> None:
    server = serve(place)
    say(server, a="one")
    watch = Watch(place, server.url, "a", command=False)
    eventually(lambda: watch.text == "one")
    pid, unlimited = watch.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8_000, unlimited[1]))  # refuses root as well
    say(server, a="x" * 15_000)
    eventually(lambda: "File too large" in (server.status("a")["last_failure"] or ""))
    shown = server.status("a")
    assert (shown["state"], "File too large" in shown["reason"]) == ("not_applied", True)
    eventually(lambda: "the old files stay; cfgsync will try again" in watch.notes)
    assert watch.text == "one"
    say(server, a="three")
    eventually(lambda: watch.text == "three")
    eventually(lambda: server.status("a")["last_failure"] is None)
    say(server, a="y" * 15_000)
    eventually(lambda: "File too large" in (server.status("a")["last_failure"] or ""))
    assert watch.text == "three"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    eventually(lambda: watch.text == "y" * 15_000)
    eventually(lambda: server.status("a")["applied"] == server.status()["generation"])
    assert watch.stop() == 0


def test_a_file_without_a_place_is_refused_while_watching_and_the_next_change_is_taken(place: Place) -> None:
    server = serve(place)
    say(server, a="one")
    target, state = place.directory / "routed", str(place.directory / "state/a")
    watch, errors = place.start(
        *("fetch", "--server", server.url, "--id", "a", "--ip", "127.0.0.1", "--state", state),
        *("--route", f"/text={target}", "--watch"),
    )
    eventually(lambda: target.exists() and target.read_text() == "one\n")
    say(server, a="two", more="/other")
    eventually(lambda: "'/other' has no target" in errors.read_text())
    eventually(lambda: errors.read_text().endswith("a: the old files stay; cfgsync will try again\n"))
    assert target.read_text() == "one\n"
    say(server, a="three")
    eventually(lambda: target.read_text() == "three\n")
    watch.terminate()
    assert watch.wait(PATIENCE) == 0


def test_systemd_is_told_of_readiness_reloads_life_and_the_end(place: Place) -> None:
    address = place.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(PATIENCE)

        heard: list[str] = []

        def until(word: str) -> str:
            while not (found := [said for said in heard if word in said]):
                heard.append(manager.recv(4096).decode())
            return found[0]

        server = serve(place)
        say(server, a="one")
        environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "400000"}
        watch = Watch(place, server.url, "a", environment=environment)
        assert "STATUS=" in until("READY=1")
        assert watch.file.exists(), "ready means: files are in place"
        until("WATCHDOG=1")
        until("STATUS=current: generation")
        say(server, a="two")
        assert "MONOTONIC_USEC=" in until("RELOADING=1")
        heard.clear()
        until("READY=1")
        eventually(lambda: watch.said[-1] == "start two")
        watch.process.send_signal(signal.SIGTERM)
        until("STOPPING=1")
        assert watch.process.wait(PATIENCE) == 3


def test_kill_9_of_the_server_and_of_a_watch_during_a_burst_ends_at_the_last_generation(place: Place) -> None:
    server = serve(place)
    say(server, a="0", b="0", c="0")
    watches = {name: Watch(place, server.url, name, command=False) for name in "abc"}
    eventually(lambda: all(watch.text == "0" for watch in watches.values()))
    for number in range(1, 16):
        say(server, **dict.fromkeys("abc", str(number)))
        if number == 5:
            server.kill()
            server = serve(place, port=server.port)
        if number == 10:
            watches["b"].process.kill()
            watches["b"].process.wait(PATIENCE)
            watches["b"] = Watch(place, server.url, "b", command=False)
    eventually(lambda: all(watch.text == "15" for watch in watches.values()))
    eventually(lambda: all(server.status(name)["waiting"] for name in "abc"))  # they hear signals by then
    for watch in watches.values():
        assert watch.stop() == 0
        numbers = [
            int(line.rpartition(" ")[2]) for line in watch.notes.splitlines() if " in place of " in line
        ]
        assert numbers == sorted(numbers), "an earlier generation was written after a later one"


def test_a_second_watcher_of_one_directory_is_refused_at_once_whoever_it_is(place: Place) -> None:
    server = serve(place)
    say(server, a="one", b="other")
    out = str(place.directory / "out/a")
    first = Watch(place, server.url, "a", command=False)
    eventually(lambda: first.text == "one")
    for name in ("b", "a"):
        second = place.run(*place.fetching(server.url, name, "--watch", out=out))
        assert second.returncode == 8
        happened, todo = second.stderr.splitlines()
        known = f" (process {first.process.pid})"  # where the file system's numbers are those of /proc/locks
        assert happened.replace(known, "") == f"another watcher keeps the files in {out} in step"
        assert todo == "give this node a directory of its own, or end that watcher first"
        words = json.loads(second.stdout)
        assert (words["status"], words["exit"], words["reason"]) == ("failed", 8, "disk")
    assert not server.status("b")["registered"], "it was refused before it asked"
    assert ended(place.fetch(server.url, "a"))[0] == 0, "a fetch by hand is no watcher"
    say(server, a="two", b="other")
    eventually(lambda: first.text == "two")
    first.process.kill()
    first.process.wait(PATIENCE)
    other = Watch(place, server.url, "b", "--out", out, command=False)
    eventually(lambda: first.text == "other" and server.status("b")["waiting"])
    assert other.stop() == 0
