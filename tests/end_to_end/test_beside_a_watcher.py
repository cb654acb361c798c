"""A `fetch` by hand beside `fetch --watch`, and what becomes of a program that does not live with its files."""

from __future__ import annotations

from tests.end_to_end.test_watch import Watch, say, serve
from tests.processes import PATIENCE, Place, Server, body, eventually

CHECK = '! grep -q bad "$CFGSYNC_STAGED/text"'


def registered(server: Server, name: str) -> object:
    """The metadata that this node is registered with."""
    nodes = server.operate("GET", "/admin/snapshot").words["registrations"]
    return next((node.get("metadata") for node in nodes if node["identifier"] == name), "not registered")


def test_a_fetch_beside_a_watcher_registers_nothing_and_reports_nothing(place: Place) -> None:
    server = serve(place, "--rollout", "all")
    say(server, a="one")
    watch = Watch(place, server.url, "a", "--check", CHECK)
    eventually(lambda: watch.said == ["start one"])
    say(server, a="bad")
    eventually(lambda: server.status("a")["state"] == "not_applied")
    revision = server.status()["revision"]

    elsewhere = str(place.directory / "elsewhere")
    done = place.run(*place.fetching(server.url, "a", out=elsewhere))
    assert done.returncode == 0, done.stderr
    out = place.directory / "out/a"
    assert done.stderr.splitlines()[0] == (
        f"note: the watcher of a ({out}) registers and reports for it; this fetch only writes files"
    )
    assert (
        "note: the watcher of a checks new files, and this fetch does not: give it --check too" in done.stderr
    )
    shown = server.status("a")
    assert (shown["state"], shown["keepalive"]) == ("not_applied", 60), "the watcher's word stands"
    done = place.run(*place.fetching(server.url, "a", "--check", "false", out=elsewhere + "-2"))
    assert (done.returncode, "give it --check too" in done.stderr) == (9, False)
    assert server.status("a")["last_failure"].endswith(": --check refused the files: exit code 1")
    assert server.status()["revision"] == revision
    assert (watch.text, watch.said) == ("one", ["start one"])

    # into the watcher's own directory it is an order: the watcher tells its program, then reports
    assert place.run(*place.fetching(server.url, "a")).returncode == 0
    eventually(lambda: watch.said == ["start one", "term", "start bad"])
    eventually(lambda: server.status("a")["state"] == "applied")

    watch.process.kill()
    watch.process.wait(PATIENCE)
    done = place.run(*place.fetching(server.url, "a"))
    assert (done.returncode, "watcher" in done.stderr) == (0, False)
    assert server.status("a")["keepalive"] is None, "without a watcher it registers for itself"


def test_a_secret_that_is_rotated_beside_a_watcher_is_the_watchers_from_its_next_request_on(
    place: Place,
) -> None:
    server = serve(place)
    say(server, a="one")
    watch = Watch(place, server.url, "a")
    eventually(lambda: watch.said == ["start one"])
    kept = place.directory / "state/a/secret"
    first = kept.read_text().strip()
    for _ in range(2):  # at the second one the server forgets the first secret
        before = kept.read_text()
        done = place.run(*place.fetching(server.url, "a", "--rotate-secret"))
        assert (done.returncode, "keeps its old secret" in done.stderr) == (0, False), done.stderr
        assert kept.read_text() != before
    say(server, a="two")
    eventually(lambda: watch.said == ["start one", "term", "start two"])
    eventually(lambda: server.status("a")["state"] == "applied")
    asked = {"Authorization": f"Bearer {first}"}
    assert server.ask("POST", "/node", body("a"), asked).status == 403
    assert (
        server.ask("POST", "/node", body("a"), {"Authorization": f"Bearer {kept.read_text().strip()}"}).status
        == 200
    )


def test_metadata_given_by_hand_beside_a_watcher_are_kept_until_it_starts_again(place: Place) -> None:
    server = serve(place, store="memory:")
    watch = Watch(place, server.url, "a", "--metadata", "1", command=False)
    eventually(lambda: watch.text == "nothing")
    done = place.run(*place.fetching(server.url, "a", "--metadata", "2"))
    assert done.returncode == 0
    out = place.directory / "out/a"
    assert done.stderr.splitlines()[0] == (
        f"note: the watcher of a ({out}) reports for it; --metadata of this fetch changed its registration, and the watcher"
        " keeps the change until it starts again"
    )
    assert "only writes files" not in done.stderr
    assert registered(server, "a") == 2
    assert server.status("a")["keepalive"] == 60
    server.kill()
    server = serve(place, port=server.port, store="memory:")
    eventually(lambda: registered(server, "a") == 2)
    assert "a: a fetch by hand has changed what this node registers" in watch.notes
    assert watch.stop() == 0


def test_a_program_that_ends_right_after_a_restart_is_failed_with_its_exit_code_and_gets_its_old_files_back(
    place: Place,
) -> None:
    server = serve(place)
    say(server, a="one")
    file = place.current("a") / "text"
    script = f"grep -q bad {file} && echo bad words >&2 && exit 4; exec sleep 1000"
    process, errors = place.start(*place.fetching(server.url, "a", "--watch", "--", "sh", "-c", script))
    eventually(lambda: server.status("a")["state"] == "applied")
    say(server, a="bad")
    why = "program ended with exit code 4 after the restart"
    eventually(lambda: f"a: {why}; the files of generation 1 are in place again" in errors.read_text())
    eventually(lambda: server.status("a")["state"] == "not_applied")
    assert server.status("a")["last_failure"].endswith(f": {why}"), "for everybody without what it wrote"
    eventually(lambda: f"{why}; its last lines: bad words" in " ".join(server.log.split()))
    assert (file.read_text(), process.poll()) == ("one\n", None)
    waited = place.run("status", "--server", server.url, "--wait-applied", "--timeout", "0")
    assert waited.returncode == 1
    assert "program ended with exit code 4" in waited.stderr

    done = place.run(*place.fetching(server.url, "b", "--watch", "--", str(place.current("b") / "text")))
    assert done.returncode == 126, "it came with the files, and may not be run"
    assert done.stderr.splitlines()[-1].endswith("/text could not be started: permission denied")
    eventually(lambda: server.status("b")["state"] == "not_applied")
    assert server.status("b")["last_failure"].endswith(": program could not be started: permission denied")


def test_a_check_that_refuses_at_the_start_starts_nothing_unless_the_start_may_degrade(place: Place) -> None:
    server = serve(place, "--rollout", "all")
    say(server, a="one")
    assert place.run(*place.fetching(server.url, "a", "--check", CHECK)).returncode == 0
    say(server, a="bad")
    started = place.directory / "started"
    refused = place.run(
        *place.fetching(server.url, "a", "--watch", "--check", CHECK, "--", "touch", str(started))
    )
    assert refused.returncode == 9
    assert not started.exists(), "files in place are no reason to start"
    degrades = ("--startup-mode", "degraded", "--check", CHECK)
    assert place.run(*place.fetching(server.url, "a", *degrades)).returncode == 9, (
        "a one-shot says what it got"
    )
    watch = Watch(place, server.url, "a", *degrades)
    eventually(lambda: watch.said == ["start one"])
    assert "warning: a: degraded: 1 file in place from the cache" in watch.notes
    assert server.status("a")["state"] == "not_applied"
    say(server, a="two")
    eventually(lambda: watch.said == ["start one", "term", "start two"])
    eventually(lambda: server.status("a")["state"] == "applied")
    assert watch.stop() == 3
