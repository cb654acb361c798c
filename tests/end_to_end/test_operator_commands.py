"""The operator's commands against a real `cfgsync serve`: rebuild, generations, replace, snapshots and check."""

from __future__ import annotations

import json

import pytest

from tests.processes import Place, Server, body, eventually

APPLICATION = """
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts, NotReady

KEEP, TEXT, LEAST = {keep}, {text!r}, {least}

class Mine:
    def materialize_snapshot(self, nodes):
        if TEXT == "broken":
            raise ValueError("it is broken")
        if len(nodes) < LEAST:
            return NotReady(f"waiting for {{LEAST}} nodes, have {{len(nodes)}}")
        made = {{}}
        for node in nodes.identifiers[:KEEP]:
            made[node] = ArtifactSet([
                ArtifactFile("/config.yaml", f"id: {{node}}\\ntext: {{TEXT}}\\n"),
                ArtifactFile("/key", "SECRET" + TEXT, "0600"),
            ])
        return MaterializedArtifacts.from_nodes(made).with_shared([ArtifactFile("/shared", "all\\n")])
"""

# The class reads the file anew at each run, so that a test can change its mind without a restart.
ANEW = """
class Mine:
    def materialize_snapshot(self, nodes):
        words = {}
        exec(open("decides.py").read(), words)
        return words["Mine"]().materialize_snapshot(nodes)
"""
NODES = [f"node-{n}" for n in range(5)]


def decides(place: Place, text: str = "one", keep: int = 99, least: int = 5) -> None:
    place.write("decides.py.new", APPLICATION.format(keep=keep, text=text, least=least))
    (place.directory / "decides.py.new").rename(place.directory / "decides.py")


def booted(place: Place, *arguments: str, nodes: list[str] | None = None) -> Server:
    place.write("app.py", ANEW)
    decides(place)
    server = place.serve("app:Mine", *arguments)
    for name in NODES if nodes is None else nodes:
        assert server.ask("POST", "/register", body(name)).status == 202
    if nodes is None:
        eventually(lambda: server.status()["generation"] is not None)
    return server


def files(server: Server, name: str) -> dict[str, str]:
    reply = server.ask("POST", "/node", body(name), {"Cfgsync-Accept": "base64, mode"})
    assert reply.status == 200, reply
    return {file["path"]: file["content"] for file in reply.words["files"]}


def test_a_result_that_leaves_most_out_is_refused_until_it_is_accepted(place: Place) -> None:
    server = booted(place)
    decides(place, "two", keep=2)
    done = place.run("generation", "rebuild", "--server", server.url)
    assert done.returncode == 1
    assert "leaves out 3 of the 5 registered nodes" in done.stderr
    assert "rebuild --accept" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "leaves out 3 of the 5" in server.status()["reason"]
    assert all("text: one" in files(server, name)["/config.yaml"] for name in NODES)
    done = place.run("generation", "rebuild", "--accept", "--server", server.url)
    assert (done.returncode, done.stdout) == (0, "generation 2\n")
    assert server.ask("POST", "/node", body("node-4")).status == 404
    done = place.run("generation", "rebuild", "--server", server.url)
    assert (done.returncode, done.stdout) == (0, "generation 2 is unchanged: the files are the same\n")
    decides(place, "three", keep=0)
    assert (
        place.run("generation", "renew", "--server", server.url).returncode == 1
    )  # accepted once, and its older name


def test_the_guard_is_a_setting(place: Place) -> None:
    server = booted(place, "--shrink-guard", "0")
    decides(place, "two", keep=1)
    assert place.run("generation", "rebuild", "--server", server.url).returncode == 0
    refused = place.run("serve", "app:Mine", "--port", "0", environment={"CFGSYNC_SERVE_SHRINK_GUARD": "101"})
    assert refused.returncode == 2
    assert "CFGSYNC_SERVE_SHRINK_GUARD" in refused.stderr
    assert "percentage from 0 (off) to 100" in refused.stderr


def test_a_renewal_says_why_nothing_was_made(place: Place) -> None:
    server = booted(place, nodes=NODES[:2])
    done = place.run("generation", "rebuild", "--server", server.url)
    assert done.returncode == 1
    assert "not ready: waiting for 5 nodes, have 2" in done.stderr
    assert place.run("generation", "list", "--server", server.url).stdout.startswith("no generation yet")
    server.stop()
    done = place.run("generation", "rebuild", "--server", server.url)
    assert done.returncode == 7


def test_a_frozen_fleet_takes_in_who_came_later(place: Place) -> None:
    server = booted(place, "--late", "freeze")
    server.ask("POST", "/register", body("late"))
    assert server.ask("POST", "/node", body("late")).status == 404
    assert place.run("generation", "rebuild", "--server", server.url).stdout == "generation 2\n"
    assert "/config.yaml" in files(server, "late")


def test_generations_are_listed_shown_and_compared(place: Place) -> None:
    server = booted(place)
    at = ("--server", server.url)
    done = place.run("generation", "diff", *at)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "generation 1 is the only one: there is nothing to compare it with",
            "cfgsync generation show prints its files",
        ],
    )
    decides(place, "two")
    place.run("generation", "rebuild", *at)
    listed = place.run("generation", "list", *at).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["epoch", "NUMBER", "2", "1"]
    assert all(len(line) <= 80 for line in listed)
    heads = json.loads(place.run("generation", "list", "--json", *at).stdout)["generations"]
    assert [head["nodes"] for head in heads] == [5, 5]
    shown = place.run("generation", "show", "1", *at).stdout
    assert "generation 1, 5 nodes" in shown
    assert "/config.yaml" in shown
    assert "text:" not in shown
    shown = place.run("generation", "show", "--contents", *at).stdout
    assert "    | text: two" in shown
    assert "SECRET" not in shown
    whole = json.loads(place.run("generation", "show", "--contents", "--json", *at).stdout)
    assert [node["identifier"] for node in whole["nodes"]] == NODES
    done = place.run("generation", "diff", *at)
    assert done.returncode == 0
    assert "    -text: one\n    +text: two\n" in done.stdout
    assert "~ /key  9 to 9 bytes (secret)" in done.stdout
    assert "SECRET" not in done.stdout
    assert place.run("generation", "diff", "--exit-code", *at).returncode == 1
    assert place.run("generation", "diff", "2", "2", "--exit-code", *at).returncode == 0
    done = place.run("generation", "show", "7", *at)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["there is no generation 7", "the files of 2 and 1 are held: cfgsync generation list"],
    )
    decides(place, "three")
    place.run("generation", "rebuild", *at)
    for words in (("show", "1"), ("diff", "1", "3")):
        done = place.run("generation", *words, *at)
        assert (done.returncode, done.stderr.splitlines()) == (
            1,
            [
                "the files of generation 1 are no longer held",
                "the files of 3 and 2 are held: cfgsync generation list",
            ],
        )


def test_a_node_s_files_are_replaced_and_come_back(place: Place) -> None:
    server = booted(place)
    at = ("--server", server.url)
    place.write("mended.yaml", "mended\n")
    (place.directory / "raw").write_bytes(b"\xff")
    done = place.run(
        *("node", "replace", "node-1", "--file", "/config.yaml=mended.yaml", "--file", "/raw=raw"),
        *("--mode", "/raw=0600", *at),
    )
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: files(server, "node-1").get("/config.yaml") == "mended\n")
    assert files(server, "node-1")["/shared"] == "all\n"
    assert files(server, "node-2")["/config.yaml"].startswith("id: node-2")
    assert "operator" in server.status("node-1")["reason"]
    assert "node-1  (replaced by an operator)" in place.run("generation", "show", *at).stdout
    clear = ("node", "replace", "node-1", "--clear", *at)
    assert place.run(*clear).stdout == "node-1: the materializer's files come back with the next generation\n"
    eventually(lambda: files(server, "node-1")["/config.yaml"].startswith("id: node-1"))
    assert place.run(*clear).stdout == "node-1: it had no replacement: nothing to clear\n"


def test_a_replacement_for_a_name_that_is_not_registered_is_kept_for_it_and_said(place: Place) -> None:
    server = booted(place)
    place.write("mended.yaml", "mended\n")
    done = place.run(
        *("node", "replace", "late", "--file", "/config.yaml=mended.yaml", "--server", server.url)
    )
    assert (done.returncode, done.stdout) == (0, "late: it gets 1 replaced file when it has registered\n")
    assert done.stderr == "note: late is not registered; cfgsync node list shows the names\n"
    assert server.ask("POST", "/register", body("late")).status == 202
    eventually(lambda: server.status("late")["state"] == "ready")
    assert files(server, "late")["/config.yaml"] == "mended\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("node-1",),
        ("node-1", "--clear", "--file", "/a=b"),
        ("node-1", "--file", "/a"),
        ("node-1", "--file", "/a=not-there"),
        ("node-1", "--file", "/a=app.py", "--mode", "/b=0600"),
        ("node-1", "--file", "/a=app.py", "--mode", "/a=9999"),
    ],
)
def test_a_replacement_that_makes_no_sense_is_usage(place: Place, arguments: tuple[str, ...]) -> None:
    place.write("app.py", "")
    done = place.run("node", "replace", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


def test_a_static_source_has_nothing_to_replace_or_renew(place: Place) -> None:
    place.write("bundle.yaml", "nodes: [{identifier: node-1, files: [{path: /a, content: a}]}]\n")
    server = place.serve("--bundle", "bundle.yaml")
    assert server.operate("POST", "/node/replace", b'{"identifier":"node-1","files":[]}').status == 404
    done = place.run("generation", "rebuild", "--server", server.url)
    assert done.returncode == 1
    happened, do = done.stderr.splitlines()
    assert happened.endswith(
        "has no /admin/renew: the server of a bundle has no generations, and no registrations to change"
    )
    assert do == "edit the bundle, and send the server SIGHUP; cfgsync node list shows its nodes"


def test_check_works_offline_on_a_saved_snapshot(place: Place) -> None:
    server = booted(place)
    done = place.run("status", "--save-snapshot", "fleet.json", "--server", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    saved = (place.directory / "fleet.json").read_text()
    assert "SECRET" not in saved
    assert "text: one" in saved
    server.stop()
    check = ("check", "app:Mine", "--snapshot", "fleet.json")
    done = place.run(*check)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("equal to generation 1\n")
    assert "/config.yaml" in done.stdout
    decides(place, "two")
    done = place.run(*check)
    assert done.returncode == 1
    assert "different from generation 1" in done.stdout
    assert "    -text: one\n    +text: two\n" in done.stdout
    assert "SECRET" not in done.stdout
    told = json.loads(place.run(*check, "--json").stdout)
    assert (told["result"], [node["change"] for node in told["nodes"]]) == ("different", ["changed"] * 5)
    decides(place, keep=4)
    assert "- node-4" in place.run(*check).stdout
    decides(place, least=6)
    done = place.run(*check)
    assert done.returncode == 1
    assert done.stdout == "not ready: waiting for 6 nodes, have 5 (generation 1 was served)\n"
    decides(place, "broken")
    done = place.run(*check)
    assert done.returncode == 1
    assert "failed: it is broken" in done.stderr


def test_check_reads_a_store_beside_its_server_and_changes_nothing(place: Place) -> None:
    server = booted(place, "--store", "sqlite:fleet.db")
    check = ("check", "app:Mine", "--store", "sqlite:fleet.db")
    done = place.run(*check)
    assert (done.returncode, done.stderr) == (0, "")
    place.write("mended.yaml", "mended\n")
    place.run("node", "replace", "node-1", "--file", "/config.yaml=mended.yaml", "--server", server.url)
    eventually(lambda: files(server, "node-1").get("/config.yaml") == "mended\n")
    revision = server.status()["revision"]
    done = place.run(*check)
    assert done.returncode == 0
    assert "not compared: node-1" in done.stdout
    decides(place, "two")
    assert place.run(*check).returncode == 1
    assert server.status()["revision"] == revision
    assert "text: one" in files(server, "node-2")["/config.yaml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("app:Mine",), "--snapshot"),
        (("app:Mine", "--snapshot", "not-there.json"), "no such file"),
        (("app:Mine", "--snapshot", "app.py"), "is not a snapshot"),
        (("app.py", "--snapshot", "app.py"), "names a file"),
        (("app:Mine", "--store", "sqlite:not-there.db"), "not-there.db"),
    ],
)
def test_what_check_cannot_read_is_usage(place: Place, arguments: tuple[str, ...], said: str) -> None:
    place.write("app.py", ANEW)
    done = place.run("check", *arguments)
    assert done.returncode == 2, done
    assert said in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("round_", range(3))
def test_a_server_that_is_killed_in_the_middle_has_done_it_whole_or_not_at_all(
    place: Place, round_: int
) -> None:
    server = booted(place, "--store", "sqlite:fleet.db")
    place.write("mended.yaml", "mended\n")
    before = {name: files(server, name) for name in NODES}
    decides(place, "two")
    started = [
        place.start("generation", "rebuild", "--server", server.url)[0],
        place.start(
            "node", "replace", "node-1", "--file", "/config.yaml=mended.yaml", "--server", server.url
        )[0],
    ]
    if round_:
        eventually(lambda: started[round_ - 1].poll() is not None)
    server.kill()
    for process in started:
        process.wait(60)
    renewed, replaced = (process.returncode == 0 for process in started)
    again = place.serve("app:Mine", "--store", "sqlite:fleet.db")
    if renewed or replaced:  # what was acknowledged is kept; the run that it asks for may still be to come
        eventually(lambda: "two" in files(again, "node-0")["/config.yaml"])
    if replaced:
        eventually(lambda: files(again, "node-1")["/config.yaml"] == "mended\n")
    for name in NODES:
        now = files(again, name)
        assert now["/shared"] == "all\n"
        whole = (
            before[name],
            {**before[name], **new(name)},
            {"/config.yaml": "mended\n", "/shared": "all\n"},
        )
        assert now in whole


def new(name: str) -> dict[str, str]:
    return {"/config.yaml": f"id: {name}\ntext: two\n", "/key": "SECRETtwo"}


def test_check_takes_its_snapshot_from_the_environment_and_a_flag_wins(place: Place) -> None:
    place.write("app.py", ANEW)
    both = {"CFGSYNC_CHECK_SNAPSHOT": "by-variable.json", "CFGSYNC_STORE": "sqlite:by-variable.db"}
    assert "by-variable.json" in place.run("check", "app:Mine", environment=both).stderr
    flag = place.run("check", "app:Mine", "--store", "sqlite:by-flag.db", environment=both)
    assert "by-flag.db" in flag.stderr


def test_nodes_are_listed_with_address_and_metadata_by_state_and_shown_with_their_files(place: Place) -> None:
    server = booted(place)
    at = ("--server", server.url)
    assert server.ask("POST", "/register", body("node-0", {"rack": 7})).status == 202
    reply = server.ask(
        "POST", "/node", body("node-0"), {"Cfgsync-Accept": "base64, mode", "Prefer": "wait=5"}
    )
    assert reply.status == 200
    title, first, *_ = place.run("node", "list", "-o", "wide", *at).stdout.splitlines()
    assert title.split() == ["NODE", "STATE", "ADDRESS", "SERVED", "APPLIED", "LAST", "SEEN", "METADATA"]
    assert (first.split()[:3], first.split()[-1]) == (["node-0", "served", "127.0.0.1"], '{"rack":7}')
    assert "METADATA" not in place.run("node", "list", *at).stdout
    served = json.loads(place.run("node", "list", "--state", "served", "--json", *at).stdout)["nodes"]
    assert [(one["identifier"], one["address"], one["metadata"]) for one in served] == [
        ("node-0", "127.0.0.1", {"rack": 7})
    ]
    assert place.run("node", "list", "--state", "failed", *at).stdout == "no node is failed\n"
    wrong = place.run("node", "list", "--state", "aplied", *at)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 2)
    shown = json.loads(place.run("node", "show", "node-0", "--json", *at).stdout)
    assert {file["path"]: file.get("size") for file in shown["files"]} == {"/config.yaml": 21, "/key": None}
    assert (shown["files"][1], shown["shared"][0]["size"]) == (
        {"path": "/key", "mode": "0600", "secret": True},
        4,
    )
    assert shown["digest"] == reply.headers["etag"].strip('"')
    nobody = place.run("node", "show", "nobody", *at)
    assert (nobody.returncode, nobody.stdout.splitlines()[0]) == (1, "nobody: not_registered")
    assert place.run("status", "nobody", *at).returncode == 1
