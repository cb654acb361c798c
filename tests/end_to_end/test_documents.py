"""Config documents with the real commands: set by hand, changed over HTTP, read again after kill -9."""

from __future__ import annotations

import os
import pwd
import signal

import pytest

from tests.processes import Place, Server, eventually

PRODUCTION = {"X-Cfgsync-Environment": "production"}


@pytest.fixture
def place(tmp_path):
    with Place(tmp_path / "place") as made:
        yield made


def config(place: Place, server: Server, *arguments: str, code: int = 0) -> str:
    """What `cfgsync config ARGUMENTS` in production printed."""
    done = place.run(
        "config", *arguments, "--server", server.url, environment={"CFGSYNC_ENVIRONMENT": "production"}
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def test_documents_are_set_by_hand_changed_over_http_and_outlive_the_server(place: Place) -> None:
    server = place.serve("--documents", "--open-documents")
    place.write("flags.json", '{"on": true, "ratio": 1.0}')
    assert config(place, server, "set", "flags", "flags.json") == "flags revision 1\n"
    assert (
        config(place, server, "set", "limits", "flags.json", "--json") == '{"name":"limits","revision":2}\n'
    )
    assert server.ask("PATCH", "/api/v1/config/flags", b'{"on":false}', PRODUCTION).words["revision"] == 3
    assert config(place, server, "patch", "flags", '{"by": {"hand": 1}}') == "flags revision 4\n"
    assert (
        config(place, server, "patch", "flags", '{"by": {"hand": null}}', "--merge-patch")
        == "flags revision 5\n"
    )
    shown = '{\n  "on": false,\n  "ratio": 1.0,\n  "by": {}\n}\n'
    assert config(place, server, "get", "flags") == shown
    listed = config(place, server, "list").splitlines()
    assert [line.split()[:2] for line in listed] == [["NAME", "REVISION"], ["flags", "5"], ["limits", "2"]]
    before = server.ask("GET", "/api/v1/config/flags", headers=PRODUCTION)
    server.kill()

    server = place.serve("--documents", port=server.port)
    assert server.ask("GET", "/api/v1/config/flags", headers=PRODUCTION).status == 401
    after = server.operate("GET", "/api/v1/config/flags", headers=PRODUCTION)
    assert (after.words, after.headers["etag"]) == (before.words, before.headers["etag"])
    refused = config(place, server, "set", "flags", "flags.json", "--if-revision", "3", code=10)
    assert refused == (
        "flags (production) was not written: expected revision 3, found revision 5\n"
        "read it again (cfgsync config get flags), and decide again\n"
    )
    assert "expected no document" in config(
        place, server, "set", "flags", "flags.json", "--if-revision", "0", code=10
    )
    config(place, server, "patch", "flags", '{"by": "mistake"}')
    rows = [line.split(maxsplit=3) for line in config(place, server, "history", "flags").splitlines()]
    assert [row[0] for row in rows] == ["REVISION", "6", "5", "4", "3", "1"]
    assert rows[4][2:] == ["anyone", '{"on":false,"ratio":1.0}']  # over HTTP, open to everyone
    assert rows[2][2] == pwd.getpwuid(os.geteuid()).pw_name
    rolled = config(place, server, "rollback", "flags", "5")
    assert rolled == "flags revision 7 has the value of revision 5\n"
    assert config(place, server, "get", "flags") == shown
    assert "has no version 99" in config(place, server, "rollback", "flags", "99", code=1)
    staging = place.run(
        *("config", "set", "flags", "flags.json", "--env", "staging", "--server", server.url), environment={}
    )
    assert staging.returncode == 0, staging.stderr
    two = ("--from", "staging", "--to", "production", "--server", server.url)
    differing = place.run("config", "diff", "flags", *two)
    assert differing.returncode == 1
    assert {'-  "on": true,', '+  "on": false,'} <= set(differing.stdout.splitlines())
    config(place, server, "set", "flags", "flags.json")
    same = place.run("config", "diff", "flags", *two)
    assert (same.returncode, same.stdout) == (0, "flags is the same in both\n")
    assert config(place, server, "delete", "flags") == "flags is deleted\n"
    assert "there is no flags (production)" in config(place, server, "get", "flags", code=1)
    assert "must be valid JSON" in config(place, server, "patch", "flags", '{"a"', code=2)
    assert "flags.yaml: no such file" in config(place, server, "set", "flags", "flags.yaml", code=2)


def test_a_server_without_documents_says_how_to_serve_them(place: Place) -> None:
    place.write("app.py", "class Mine:\n    def materialize_snapshot(self, nodes): ...\n")
    server = place.serve("app:Mine")
    said = config(place, server, "list", code=7)
    assert said.endswith("serve them: cfgsync serve --documents\n")


def test_a_document_is_watched_on_a_terminal_and_runs_a_command_until_that_succeeds(place: Place) -> None:
    server = place.serve("--documents")
    place.write(
        "apply",
        '#!/bin/sh\ncat >>got; echo " $CFGSYNC_CONFIG_NAME $CFGSYNC_CONFIG_REVISION" >>got\ntest -e ok\n',
    )
    (place.directory / "apply").chmod(0o755)
    at = {"CFGSYNC_ENVIRONMENT": "production", "CFGSYNC_SERVER": server.url}
    printing, _ = place.start("config", "watch", "flags", environment=at)
    assert printing.stdout.readline() == "null\n"
    running, _ = place.start("config", "watch", "flags", "--", "./apply", environment=at)
    got = place.directory / "got"
    eventually(
        lambda: got.exists() and got.read_text().count("null flags 0\n") >= 2
    )  # it failed, and ran again
    place.write("ok", "")
    for revision, on in ((1, "true"), (2, "false")):
        config(place, server, "patch", "flags", f'{{"on": {on}}}')
        assert printing.stdout.readline() == f'{{"on":{on}}}\n'
        eventually(lambda line=f'{{"on":{on}}} flags {revision}\n': line in got.read_text())
    port = server.port
    server.kill()
    server = place.serve("--documents", port=port)
    config(place, server, "delete", "flags")
    assert printing.stdout.readline() == "null\n"
    eventually(lambda: got.read_text().endswith("null flags 0\n"))
    assert got.read_text().count('{"on":false} flags 2\n') == 1  # once, also over a restart of the server
    for process in (printing, running):
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
