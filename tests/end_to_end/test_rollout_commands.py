"""`cfgsync rollout` against a real `cfgsync serve`, with nodes that speak the wire by hand."""

from __future__ import annotations

import json

from tests.processes import Place, Reply, Server, body, eventually

APPLICATION = """
from pathlib import Path
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts

class Noted:
    def materialize_snapshot(self, nodes):
        files = ArtifactSet([ArtifactFile("/note", Path("note").read_text())])
        return MaterializedArtifacts.from_nodes({one.identifier: files for one in nodes})
"""
NAMES = ("node-1", "node-2", "node-3")


class Hand:
    """Nodes of one server, moved by hand: what each runs on, and what it refused."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.runs: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    def boot(self) -> None:
        for name in NAMES:
            assert self.server.ask("POST", "/register", body(name)).status == 202
        for name in NAMES:
            self.take(name, self.ask(name))

    def ask(self, name: str, wait: int = 1) -> Reply:
        mark = "refused" if name in self.refused else "steady"
        headers = {"Prefer": f"wait={wait}", "Cfgsync-Turn": f"default; {mark}"}
        if name in self.runs:
            headers["If-None-Match"] = f'"{self.refused.get(name, self.runs[name])}"'
        return self.server.ask("POST", "/node", body(name), headers)

    def take(self, name: str, reply: Reply, failure: str | None = None) -> None:
        """Change to these files, and say how that ended."""
        assert reply.status == 200, reply
        digest = reply.headers["etag"].strip('"')
        words = {"identifier": name, "generation": reply.headers["cfgsync-generation"], "digest": digest}
        words |= {"status": "applied" if failure is None else "failed", "group": "default"}
        if failure is None:
            self.runs[name] = digest
            self.refused.pop(name, None)
        else:
            self.refused[name] = digest
            words["reason"] = failure
        assert self.server.ask("POST", "/ack", json.dumps(words).encode()).status == 204

    def state(self) -> str:
        rollout = self.server.status().get("rollout")
        return "" if rollout is None else rollout["state"]

    def change(self, place: Place, note: str) -> None:
        place.write("note", note)
        answer = self.server.operate("POST", "/admin/renew", b"{}")
        assert answer.words["outcome"] == "new", answer


def rollout(place: Place, server: Server, *words: str) -> tuple[int, str]:
    done = place.run("rollout", *words, "--server", server.url)
    return done.returncode, done.stdout + done.stderr


def test_an_operator_sees_a_halt_resumes_retries_promotes_and_reverts(place: Place) -> None:
    place.write("app.py", APPLICATION)
    place.write("note", "one")
    server = place.serve("app:Noted", "--store", "memory:", "--max-parallel", "1")
    hand = Hand(server)
    assert rollout(place, server, "status") == (
        0,
        "no node takes turns here: changes reach every node at once\n",
    )
    hand.boot()
    eventually(lambda: hand.state() == "idle")
    first = server.status()["generation"].rpartition(".")[2]

    hand.change(place, "two")
    changed = hand.ask("node-1")
    kept = hand.ask("node-2")
    assert (kept.status, kept.headers["etag"].strip('"')) == (304, hand.runs["node-2"])
    assert "cfgsync-generation" not in kept.headers
    assert kept.headers["cfgsync-next"] == server.status()["generation"]
    why = server.status("node-2")["reason"]
    second = server.status()["generation"].rpartition(".")[2]
    assert why.startswith(
        f"generation {second} waits for its turn: node-1 is on it; generation {first} is applied"
    )
    hand.take("node-1", changed, "exit status 1: unknown flag: --nonsense")
    eventually(lambda: hand.state() == "halted")
    code, said = rollout(place, server, "status")
    assert code == 1
    assert said.startswith(f"generation {second}: halted, 0 of 3 nodes through, 2 waiting, 1 failed")
    assert "failed: node-1: exit status 1: unknown flag: --nonsense" in said
    waited = place.run("status", "--wait-applied", "--server", server.url)
    assert waited.returncode == 1
    assert "node-1 failed: exit status 1" in waited.stderr
    assert "halted" in place.run("status", "--server", server.url).stdout
    assert 'cfgsync_rollout_state{state="halted"} 1.0' in server.ask("GET", "/metrics").body.decode()
    assert "node-1" in server.ask("GET", "/").body.decode().partition("Rollout")[2]

    assert rollout(place, server, "retry")[0] == 0
    assert server.status()["rollout"]["failed"][0]["again"], "a watch waits for it"
    again = hand.ask("node-1")
    assert again.status == 200, "though it named these files"
    hand.take("node-1", again, "still no such flag")
    eventually(lambda: hand.state() == "halted" and not server.status()["rollout"]["in_transition"])

    assert rollout(place, server, "resume")[1].startswith(f"generation {second}: rolling")
    hand.take("node-2", hand.ask("node-2"))
    code, said = rollout(place, server, "status", "--json")
    found = json.loads(said)
    assert (code, found["through"], found["of"], found["waiting"]) == (0, 1, 3, 1)
    assert found["failed"] == [
        {
            "identifier": "node-1",
            "reason": "still no such flag",
            "generation": found["generation"],
            "left_behind": True,
            "words": "",
            "again": False,
        }
    ]

    other = server.operate(
        "POST", "/admin/rollout", json.dumps({"action": "pause", "generation": "e.1"}).encode()
    )
    assert (other.status, other.words["code"]) == (409, "stale_generation")
    code, said = rollout(place, server, "revert", "--to", "99")
    assert (code, "the files of generation 99 are not held" in said) == (1, True)
    code, said = rollout(place, server, "revert")
    third = server.status()["generation"].rpartition(".")[2]
    assert (code, int(third)) == (0, int(second) + 1)
    for name in ("node-1", "node-2"):
        hand.take(name, hand.ask(name))
    assert hand.ask("node-3").headers["cfgsync-generation"].endswith(f".{third}"), "it never left these files"
    eventually(lambda: hand.state() == "idle")
    assert f"generation {third} (the files of generation {first} again): idle" in rollout(
        place, server, "status"
    )[1].replace("\n", " ")
    listed = place.run("generation", "list", "--server", server.url).stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in listed[2:4]] == ["rolled out", f"reverted by {third}"]

    code, said = rollout(place, server, "revert")
    assert (code, "no other good one is held" in said) == (1, True), "the one that failed is not proposed"

    code, said = rollout(place, server, "pause")
    assert "operator has paused it" in said, "also while nothing rolls"
    hand.change(place, "three")
    assert rollout(place, server, "status")[1].split()[2] == "paused,"
    assert hand.ask("node-1").status == 304
    assert rollout(place, server, "promote")[0] == 0
    for name in NAMES:
        hand.take(name, hand.ask(name))
    eventually(lambda: hand.state() == "idle")


def test_with_rollout_all_nobody_waits_and_a_command_says_so(place: Place) -> None:
    place.write("app.py", APPLICATION)
    place.write("note", "one")
    server = place.serve("app:Noted", "--store", "memory:", "--rollout", "all")
    hand = Hand(server)
    hand.boot()
    hand.change(place, "two")
    for name in NAMES:
        assert hand.ask(name).status == 200
    assert "rollout" not in server.status()
    code, said = rollout(place, server, "pause")
    assert (code, "--rollout all" in said) == (1, True)
