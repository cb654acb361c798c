"""Acknowledgements, `--wait-applied`, `--ttl` and evictions of a real `cfgsync serve`, also across kill −9."""

from __future__ import annotations

import json
import random
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.processes import Place, Reply, Server, body, ended, eventually
from tests.seeds import drawn_seed

HERE = Path(__file__).parent
BEARER = {"Authorization": "Bearer " + "m" * 43}
EPOCH = "01890a5d-ac96-774b-bcce-b302099a8057"
OTHER = {"Authorization": "Bearer " + "o" * 43}


def serve(place: Place, *arguments: str, nodes: int = 1) -> Server:
    environment = {"NODES": str(nodes)}
    store = f"sqlite:{place.directory / 'store.db'}"
    return place.serve("application:Fleet", "--store", store, *arguments, environment=environment, cwd=HERE)


def register(server: Server, *names: str, note: str = "") -> None:
    for name in names:
        assert server.ask("POST", "/register", body(name, {"note": note}), BEARER).status == 202


def owed(server: Server, name: str) -> dict[str, Any]:
    """What this node has to acknowledge now."""
    got = server.ask("POST", "/node", body(name), BEARER)
    assert got.status == 200
    digest = got.headers["etag"].strip('"')
    return {
        "identifier": name,
        "generation": got.headers["cfgsync-generation"],
        "digest": digest,
        "status": "applied",
    }


def ack(server: Server, said: dict[str, Any]) -> Reply:
    return server.ask("POST", "/ack", json.dumps(said).encode(), BEARER)


def applied(server: Server, *names: str) -> None:
    for name in names:
        assert ack(server, owed(server, name)).status == 204


def test_wait_applied_names_who_has_not_and_why_and_ends_when_all_have(place: Place) -> None:
    server = serve(place, nodes=3)
    nobody = place.run("status", "--server", server.url, "--wait-applied", "--timeout", "0")
    assert (nobody.returncode, len(nobody.stderr.splitlines())) == (1, 2)
    assert "no generation yet: no node has registered" in nobody.stderr
    register(server, "a", "b", "c")
    applied(server, "a")
    failed = owed(server, "b") | {"status": "failed", "reason": "/srv is \x1b[2Jread-only"}
    assert ack(server, failed).status == 204
    late = place.run("status", "--server", server.url, "--wait-applied", "--timeout", "0.3")
    assert late.returncode == 1
    *_, happened, do = late.stderr.splitlines()
    assert (
        "2 of 3 nodes have not applied generation 1 within 0.3 s: b (could not apply generation 1" in happened
    )
    assert ": /srv is ?[2Jread-only; nothing is applied yet), c (" in happened
    assert "cfgsync status b" in do
    as_json = place.run("status", "--server", server.url, "--wait-applied", "--timeout", "0", "--json")
    told = json.loads(as_json.stdout)
    assert (as_json.returncode, told["status"], told["exit"], told["applied"]) == (1, "behind", 1, 1)
    assert [node["identifier"] for node in told["behind"]] == ["b", "c"]

    def mend() -> None:
        time.sleep(0.3)
        applied(server, "b", "c")

    mending = threading.Thread(target=mend)
    mending.start()
    done = place.run("status", "--server", server.url, "--wait-applied", "--timeout", "30")
    mending.join()
    assert (done.returncode, done.stdout) == (0, "3 nodes have applied generation 1\n")
    assert server.status("b")["last_failure"] is None


def test_a_fleet_of_real_nodes_has_converged_when_they_have_booted(place: Place) -> None:
    server = serve(place, nodes=3)
    booting = [place.fetch(server.url, name) for name in ("a", "b", "c")]
    done = place.run("status", "--server", server.url, "--wait-applied", "--timeout", "30")
    assert (done.returncode, done.stdout) == (0, "3 nodes have applied generation 1\n")
    assert [ended(process)[0] for process in booting] == [0, 0, 0]


def test_wait_applied_without_a_server_is_exit_7_and_of_a_foreign_one_at_once(place: Place) -> None:
    server = serve(place)
    url = server.url
    assert server.stop() == 0
    gone = place.run("status", "--server", url, "--wait-applied", "--timeout", "0.2")
    assert (gone.returncode, "connection refused" in gone.stderr) == (7, True)
    told = place.run("status", "--server", url, "--wait-applied", "--timeout", "0", "--json")
    assert (told.returncode, json.loads(told.stdout)["status"]) == (7, "unreachable")
    usage = place.run("status", "a", "--wait-applied")
    assert (usage.returncode, len(usage.stderr.splitlines())) == (2, 2)


def test_what_was_acknowledged_stays_acknowledged_through_kills(place: Place) -> None:
    chance = random.Random(drawn_seed())
    names = [f"n{n:02}" for n in range(20)]
    server = serve(place, nodes=len(names))
    register(server, *names)
    kept: set[str] = set()
    for _ in range(4):
        todo = [name for name in names if name not in kept][: chance.randrange(2, 6)]
        for name in todo:
            said = owed(server, name)
            if chance.random() < 0.5:
                assert ack(server, said | {"status": "failed", "reason": f"{name} is full"}).status == 204
            if chance.random() < 0.8:
                assert ack(server, said).status == 204
                kept.add(name)
        before = {node["identifier"]: node for node in server.status()["nodes"]}
        server.kill()
        server = serve(place, nodes=len(names))
        after = server.status()
        assert after["applied"] == len(kept)
        for node in after["nodes"]:
            was = before[node["identifier"]]
            assert (node["applied"], node["last_failure"]) == (was["applied"], was["last_failure"])
            assert (node["applied"] is not None) == (node["identifier"] in kept)
    applied(server, *(name for name in names if name not in kept))
    assert place.run("status", "--server", server.url, "--wait-applied", "--timeout", "9").returncode == 0


def test_who_is_silent_for_the_ttl_leaves_and_its_name_is_free_and_who_is_held_stays(place: Place) -> None:
    server = serve(place, "--ttl", "1.5", nodes=3)
    for name in ("held", "silent"):
        promise = {**BEARER, "Cfgsync-Keepalive": "1"}
        assert server.ask("POST", "/register", body(name), promise).status == 202
    answers: list[Reply] = []

    def hold() -> None:
        answers.append(server.ask("POST", "/node", body("held"), {**BEARER, "Prefer": "wait=30"}))

    holding = threading.Thread(target=hold)
    holding.start()
    eventually(lambda: server.status()["registered"] == 1)
    gone = server.status("silent")
    assert (gone["registered"], "--ttl is 1.5 s" in gone["reason"]) == (False, True)
    assert server.status("held")["waiting"]
    eventually(lambda: "expired after 1.5 s without a request: silent" in server.log)
    assert "held promises to be heard of every 1 s, which is over half of --ttl (1.5 s)" in server.log
    assert server.ask("POST", "/register", body("silent"), OTHER).status == 202, "its name was free"
    assert server.ask("POST", "/register", body("held"), OTHER).status == 409, "the other's was not"
    register(server, "third")  # held, silent and third are the three
    holding.join(20)
    assert [answer.status for answer in answers] == [200]


def test_an_evicted_node_leaves_and_the_commands_say_so(place: Place) -> None:
    server = serve(place)
    at = ("--server", server.url)
    empty = place.run("node", "list", *at)
    assert (empty.returncode, empty.stdout) == (0, "no node is registered\n")
    register(server, "a", "b" * 100)
    listed = place.run("node", "list", *at)
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NODE", "a", "b" * 100]
    told = json.loads(place.run("node", "list", "--json", *at).stdout)
    assert [node["identifier"] for node in told["nodes"]] == ["a", "b" * 100]
    assert server.ask("POST", "/register", body("a"), OTHER).status == 409
    evicted = place.run("node", "evict", "a", *at)
    assert (evicted.returncode, evicted.stdout) == (0, "a has left; its name is free\n")
    assert server.ask("POST", "/node", body("a"), BEARER).words["registered"] is False
    assert "a is not registered: evicted" in place.run("status", "a", *at).stdout
    again = place.run("node", "evict", "a", *at)
    assert (again.returncode, len(again.stderr.splitlines())) == (1, 2)
    assert "no node a is registered" in again.stderr
    assert server.ask("POST", "/register", body("a"), OTHER).status == 202
    url = server.url
    server.stop()
    assert place.run("node", "evict", "a", "--server", url).returncode == 7


def test_an_eviction_survives_a_kill(place: Place) -> None:
    server = serve(place)
    register(server, "a", "b")
    applied(server, "a", "b")
    assert place.run("node", "evict", "b", "--server", server.url).returncode == 0
    server.kill()
    server = serve(place)
    assert [node["identifier"] for node in server.status()["nodes"]] == ["a"]
    assert server.ask("POST", "/register", body("b"), OTHER).status == 202
    assert server.status("b")["applied"] is None


def test_a_bundles_nodes_apply_and_are_waited_for_like_others(place: Place) -> None:
    place.write(
        "bundle.yaml",
        "nodes:\n- identifier: a\n  files:\n  - {path: /x, content: y}\n  - {path: /key, content: SECRET, mode: '0600'}\n"
        "- identifier: b\n  files: [{path: /x, content: z}]\nshared_files: []\n",
    )
    server = place.serve("--bundle", str(place.directory / "bundle.yaml"), "--title", "a bundle")
    at = ("--server", server.url)
    assert place.run("fetch", "--id", "a", "--metadata", '{"zone":"z1"}', "--out", "out", *at).returncode == 0
    assert [(one["identifier"], one["state"]) for one in server.status()["nodes"]] == [
        ("a", "applied"),
        ("b", "ready"),
    ]
    digest = server.ask("POST", "/node", body("b")).headers["etag"].strip('"')
    assert server.status("b") | {"served": digest, "applied": None, "state": "served"} == server.status("b")
    behind = place.run("status", "--wait-applied", "--timeout", "0", *at)
    assert behind.returncode == 1
    assert behind.stderr.startswith("1 of 2 nodes has not applied the files of the bundle within 0 s: b (")
    said = {"identifier": "b", "digest": digest, "status": "applied"}
    assert server.ask("POST", "/ack", json.dumps(said | {"generation": f"{EPOCH}.1"}).encode()).status == 409
    assert server.ask("POST", "/ack", json.dumps(said | {"identifier": "c"}).encode()).status == 404
    assert server.ask("POST", "/ack", json.dumps(said).encode()).status == 204
    done = place.run("status", "--wait-applied", "--timeout", "5", *at)
    assert (done.returncode, done.stdout) == (0, "2 nodes have applied the files of the bundle\n")
    shown = place.run("node", "show", "a", *at)
    assert shown.returncode == 0
    assert 'metadata {"zone":"z1"}' in shown.stdout
    assert f"0644          1  sha256-{sha256(b'y').hexdigest()}  /x" in shown.stdout
    assert "0600  secret  /key" in shown.stdout
    assert sha256(b"SECRET").hexdigest() not in shown.stdout
    for words in (("status", "c"), ("status", "c", "--json"), ("node", "show", "c")):
        assert place.run(*words, *at).returncode == 1, words
    evicted = place.run("node", "evict", "a", *at)
    assert (evicted.returncode, "the server of a bundle has no generations" in evicted.stderr) == (1, True)


def test_a_watching_node_tells_a_bundles_server_again_that_has_restarted(place: Place) -> None:
    place.write("bundle.yaml", "nodes: [{identifier: a, files: [{path: /x, content: y}]}]\n")
    server = place.serve("--bundle", "bundle.yaml")
    place.start("fetch", "--server", server.url, "--id", "a", "--out", "out", "--watch")
    eventually(lambda: server.status("a")["state"] == "applied")
    server.kill()
    server = place.serve("--bundle", "bundle.yaml", port=server.port)
    eventually(lambda: server.status("a")["state"] == "applied", within=30)
