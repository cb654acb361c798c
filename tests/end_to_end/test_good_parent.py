"""`fetch --watch` beside a program: it tells it what it was not told, checks files first, restores changed ones, and is a
parent that a program, its orphans and a container can live with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.test_watch import Watch, say, serve
from tests.processes import BIN, PATIENCE, Place, eventually

NEEDS_A_NAMESPACE = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode != 0,
    reason="NOT TESTED: a process namespace needs root and `unshare`",
)


@pytest.mark.parametrize("state", ["of the watcher", "of its own"])
def test_a_fetch_by_hand_beside_a_watcher_is_told_to_the_program(place: Place, state: str) -> None:
    server = serve(place)
    say(server, a="one")
    watch = Watch(place, server.url, "a")
    eventually(lambda: watch.said == ["start one"])
    say(server, a="two")
    more = [] if state == "of the watcher" else ["--secret-file", str(place.directory / "state/a/secret")]
    arguments = place.fetching(server.url, "a", *more)
    if more:
        arguments[arguments.index("--state") + 1] = str(place.directory / "another")  # type: ignore[index]
    eventually(lambda: place.run(*arguments).returncode == 0)  # 8 while the watcher writes the same files
    eventually(lambda: watch.said[-1] == "start two")
    eventually(lambda: server.status("a")["applied"] == server.status()["generation"])
    assert watch.stop() == 3


def test_a_watcher_killed_between_writing_and_telling_tells_a_program_of_others_at_its_next_start(
    place: Place,
) -> None:
    server = serve(place)
    say(server, a="one")
    log = place.directory / "told"
    line = f"cat {place.current('a')}/text >> {log}"

    def told() -> list[str]:
        return log.read_text().split() if log.exists() else []

    first = Watch(place, server.url, "a", "--reload-command", line, "--splay", "1h", command=False)
    eventually(lambda: told() == ["one"])
    eventually(lambda: server.status("a")["state"] == "applied")
    say(server, a="two")
    eventually(lambda: first.text == "two")
    assert server.status("a")["state"] == "served", "the program does not know it yet"
    first.process.kill()
    first.process.wait(PATIENCE)
    assert told() == ["one"]
    second = Watch(place, server.url, "a", "--reload-command", line, "--splay", "1h", command=False)
    eventually(lambda: told() == ["one", "two"])
    eventually(lambda: server.status("a")["state"] == "applied")
    assert second.stop() == 0
    third = Watch(place, server.url, "a", "--reload-command", line, command=False)
    eventually(lambda: bool(server.status("a")["waiting"]))
    assert third.stop() == 0
    assert told() == ["one", "two"], "it knew them already"


def test_a_reload_command_that_fails_is_acknowledged_as_failed_and_tried_again(place: Place) -> None:
    server = serve(place)
    say(server, a="one")
    ready = place.directory / "ready"
    line = f"echo not yet; test -e {ready}"
    watch = Watch(place, server.url, "a", "--reload-command", line, command=False)
    eventually(lambda: server.status("a")["state"] == "not_applied")
    assert server.status("a")["last_failure"].endswith(": --reload-command failed: exit code 1")
    assert "--reload-command failed: exit code 1; its last words: not yet" in watch.notes
    assert watch.text == "one"
    ready.touch()
    eventually(lambda: server.status("a")["state"] == "applied")
    assert watch.notes.count("--reload-command failed") == 1
    assert watch.stop() == 0


def test_a_check_keeps_the_old_files_is_exit_9_and_is_seen_in_status(place: Place) -> None:
    server = serve(place)
    say(server, a="bad")
    runs = place.directory / "runs"
    line = (
        f'echo run >> {runs}; echo text is; cat "$CFGSYNC_STAGED/text"; ! grep -q bad "$CFGSYNC_STAGED/text"'
    )
    refused = place.run(*place.fetching(server.url, "a", "--check", line, "--", "touch", "started"))
    assert refused.returncode == 9
    assert refused.stderr.splitlines() == [
        "--check refused the files: exit code 1; its last words: text is bad",
        "the files in place are unchanged; correct the files, or the command of --check",
    ]
    assert json.loads(refused.stdout)["reason"] == "check"
    assert not (place.directory / "started").exists()
    assert not place.current("a").exists()
    assert server.status("a")["last_failure"].endswith(": --check refused the files: exit code 1")
    say(server, a="one")
    watch = Watch(place, server.url, "a", "--check", line)
    eventually(lambda: watch.said == ["start one"])
    before = runs.read_text().count("run")
    say(server, a="bad again")
    eventually(lambda: server.status("a")["state"] == "not_applied")
    say(server, a="bad again", other="x")  # the same files of a newer generation
    say(server, a="two")
    eventually(lambda: watch.said[-1] == "start two")
    assert "start bad again" not in watch.said
    assert runs.read_text().count("run") == before + 2, "a digest is checked once"
    eventually(lambda: server.status("a")["state"] == "applied")
    assert watch.stop() == 3


def test_sigterm_while_a_check_runs_ends_both_at_once_and_is_no_refusal(place: Place) -> None:
    server = serve(place)
    say(server, a="one")
    checking = place.directory / "checking"
    line = f'grep -q one "$CFGSYNC_STAGED/text" || {{ echo $$ > {checking}; sleep 25; }}'
    watch = Watch(place, server.url, "a", "--check", line)
    eventually(lambda: watch.said == ["start one"])
    say(server, a="two")
    eventually(checking.exists)
    began = time.monotonic()
    assert watch.stop() == 3
    assert time.monotonic() - began < 15
    assert watch.text == "one"
    assert server.status("a")["last_failure"] is None
    pid = int(checking.read_text())
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_files_changed_by_hand_are_restored_and_told_or_reported(place: Place) -> None:
    server = serve(place)
    say(server, a="one", b="one")
    a = Watch(place, server.url, "a")
    b = Watch(place, server.url, "b", "--on-drift", "report", command=False)
    eventually(lambda: a.said == ["start one"] and b.text == "one")
    for watch in (a, b):
        watch.file.unlink()
        watch.file.write_text("mine\n")
    eventually(lambda: a.said == ["start one", "term", "start one"], within=60)
    eventually(lambda: server.status("b").get("drifted") == ["/text"], within=60)
    assert "changed on its disk: /text" in server.status("b")["reason"]
    assert b.text == "mine"
    assert "drifted" not in server.status("a")
    say(server, a="one", b="two")
    eventually(lambda: b.text == "two")
    eventually(lambda: "drifted" not in server.status("b"))
    assert (a.stop(), b.stop()) == (3, 0)


@pytest.mark.parametrize("stderr", ["closed", "full", "unread"])
def test_a_stderr_that_takes_no_line_decides_nothing(place: Place, stderr: str) -> None:
    server = serve(place)
    say(server, a="one")
    log, file = place.directory / "log", place.current("a") / "text"
    script = (
        f"exec 2>/dev/null; trap 'exit 3' TERM; echo $(cat {file}) >> {log}; while :; do sleep 0.02; done"
    )
    arguments = place.fetching(server.url, "a", "--watch", "--", "sh", "-c", script)
    reader, writer = os.pipe()
    if stderr == "closed":
        os.close(reader)
    elif stderr == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(writer, True)
    if stderr == "unread":  # the line of the first files is written before the watch begins
        os.read(reader, 4096)
    process = subprocess.Popen(
        [BIN / "cfgsync", *arguments], cwd=place.directory, env=place.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    try:
        eventually(lambda: log.exists() and log.read_text().split() == ["one"])
        for number in range(40 if stderr == "unread" else 1):
            say(server, a=f"text-{number}")
        last = f"text-{number}"
        eventually(lambda: log.read_text().split()[-1] == last)
        eventually(lambda: server.status("a")["state"] == "applied")
        process.terminate()
        assert process.wait(PATIENCE) == 3
    finally:
        process.kill()
        process.wait()


def test_every_signal_that_can_be_caught_is_passed_on(place: Place) -> None:
    server = serve(place)
    log = place.directory / "heard"
    numbers = [
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGCONT,
        signal.SIGRTMIN + 3,
    ]
    program = (
        "import os, signal, sys, time\n"
        "log = os.open(sys.argv[1], os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
        # no `print`: a line can be read before `print` returns, and a signal in that moment is a reentrant call of it
        "for n in map(int, sys.argv[2:]): signal.signal(n, lambda n, _: os.write(log, b'%d\\n' % n))\n"
        "os.write(log, b'ready\\n')\n"
        "while True: time.sleep(0.05)\n"
    )
    words = [sys.executable, "-c", program, str(log), *(str(int(number)) for number in numbers)]
    process, _ = place.start(*place.fetching(server.url, "a", "--watch", "--", *words))
    eventually(lambda: log.exists() and "ready" in log.read_text())
    for heard, number in enumerate(numbers, 2):
        process.send_signal(number)
        try:
            eventually(lambda heard=heard: len(log.read_text().split()) == heard)
        except AssertionError:
            pytest.fail(
                f"after {number!r} the program has heard {log.read_text()!r}; cfgsync: {process.poll()}"
            )
    assert log.read_text().split()[1:] == [str(int(number)) for number in numbers]
    process.terminate()
    assert process.wait(PATIENCE) == 143


def test_the_program_inherits_no_secret_of_ours_and_what_is_its_own(place: Place) -> None:
    server = serve(place)
    environment = {
        "CFGSYNC_TOKEN": "hush",
        "CFGSYNC_STORE": "postgresql://u:p@h/d",
        "CFGSYNC_SERVER": server.url,
        "A": "b",
    }
    for more in ([], ["--watch"]):
        out = place.directory / f"environment{len(more)}"
        done = place.run(
            *place.fetching(server.url, "a", *more, "--", "sh", "-c", f"env > {out}"), environment=environment
        )
        assert done.returncode == 0
        seen = out.read_text()
        assert "hush" not in seen
        assert "u:p@h" not in seen
        assert {"A=b", f"CFGSYNC_SERVER={server.url}"} <= set(seen.splitlines())


@NEEDS_A_NAMESPACE
def test_as_pid_1_orphans_are_reaped_and_the_exit_code_is_the_programs(place: Place) -> None:
    server = serve(place)
    seen = place.directory / "seen"
    script = f"for i in 1 2 3; do ( ( exit 9 ) & ) ; done; sleep 1.5; ps -o stat= --ppid 1 > {seen}; exit 4"
    done = _as_pid_1(
        [str(BIN / "cfgsync"), *place.fetching(server.url, "a", "--watch", "--", "sh", "-c", script)], place
    )
    assert done.wait(PATIENCE) == 4
    assert "Z" not in seen.read_text()


@NEEDS_A_NAMESPACE
@pytest.mark.parametrize("command", ["cfgsync", "python -I -m cfgsync"])
def test_as_pid_1_sigterm_ends_a_waiting_fetch_at_once(place: Place, command: str) -> None:
    words = [str(BIN / "cfgsync")] if command == "cfgsync" else [str(BIN / "python"), "-I", "-m", "cfgsync"]
    nobody = place.fetching("http://127.0.0.1:1", "a", "--wait", "100")
    process = _as_pid_1([*words, *nobody], place)
    log = place.directory / "pid-1"
    eventually(lambda: "waiting" in log.read_text())
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    assert process.wait(10) == 143


def _as_pid_1(words: list[str], place: Place) -> subprocess.Popen[bytes]:
    with (place.directory / "pid-1").open("w") as log:
        return subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *words],
            cwd=place.directory, env=place.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
