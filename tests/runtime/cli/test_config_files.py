"""`cfgsync config` over environments, files and an editor, on the admin socket of a running server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from cfgsync_runtime.cli.entry import main
from cfgsync_runtime.compose.document_server import serving_documents


class Commands:
    """Runs `cfgsync config …` on a server's admin socket, in a thread."""

    def __init__(self, socket: str, session: aiohttp.ClientSession, capfd) -> None:
        self._socket = socket
        self._session = session
        self._capfd = capfd

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it printed, on stderr for another exit code than 0."""
        said = self._capfd.readouterr()

        def run() -> object:
            with pytest.raises(SystemExit) as ended:
                main(["config", *arguments, "--admin-socket", self._socket])
            return ended.value.code

        found = await asyncio.to_thread(run)
        said = self._capfd.readouterr()
        assert found == code, (arguments, said)
        return said.out if code == 0 else said.err

    async def put(
        self, name: str, value: object, env: str = "production", namespace: str = "default"
    ) -> None:
        path = f"/v1/config/admin/apps/default/envs/{env}/namespaces/{namespace}/documents/{name}"
        body = value if isinstance(value, str) else json.dumps(value)
        async with self._session.put(path, json={"contentJson": body}) as answer:
            assert answer.status == 200


@pytest.fixture
def config(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @asynccontextmanager
    async def serving() -> AsyncIterator[Commands]:
        with tempfile.TemporaryDirectory() as directory:
            socket = f"{directory}/admin.sock"
            async with (
                serving_documents(admin_socket=socket) as server,
                aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(socket)) as session,
            ):
                yield Commands(socket, session, capfd)

    return serving


def editor(path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An editor whose `$1` is the file."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(path))


async def test_a_value_is_promoted_with_its_difference_and_its_spelling_and_asks_first(config, monkeypatch):
    two = ("--from", "staging", "--to", "production")
    async with config() as run:
        await run.put("flags", '{"on": true, "ratio": 1.0}', "staging")
        assert "there is no nothing (staging)" in await run("promote", "nothing", *two, "--yes", code=1)
        assert "there is no terminal\nsay --yes" in await run("promote", "flags", *two, code=2)
        printed = await run("promote", "flags", *two, "--yes")
        assert printed.endswith('+  "ratio": 1.0\n+}\nflags (production) revision 1\n')
        assert await run("promote", "flags", *two) == "flags is the same in both\n"
        await run.put("flags", {"on": False}, "staging")
        answers = iter(["n", "y"])
        monkeypatch.setattr("builtins.input", lambda question: print(question) or next(answers))
        controller, terminal = pty.openpty()
        with os.fdopen(controller, "rb"), os.fdopen(terminal) as typed:
            monkeypatch.setattr("sys.stdin", typed)
            await run("promote", "flags", *two, code=1)
            assert '"on": true' in await run("get", "flags", "--env", "production")
            said = await run("promote", "flags", *two)
        assert '-  "on": true,' in said
        assert "write it to production? [y/N]" in said
        assert '"on": false' in await run("get", "flags", "--env", "production")


async def test_a_promotion_and_a_rollback_happen_at_the_expected_revision_only_and_say_json(config):
    two = ("--from", "staging", "--to", "production", "--yes")
    async with config() as run:
        await run.put("flags", {"on": True}, "staging")
        await run.put("flags", {"on": False})
        refused = await run("promote", "flags", *two, "--if-revision", "0", code=10)
        assert refused.startswith(
            "flags (production) was not written: expected no document, found revision 1\n"
        )
        said = await run("promote", "flags", *two, "--if-revision", "1", "--json")
        assert json.loads(said) == {"name": "flags", "revision": 2}
        assert json.loads(await run("promote", "flags", *two, "--json")) == {"name": "flags", "revision": 2}
        back = ("rollback", "flags", "1", "--env", "production")
        assert "currentVersion=2" in await run(*back, "--if-revision", "1", code=10)
        said = await run(*back, "--if-revision", "2", "--json")
        assert json.loads(said) == {"name": "flags", "revision": 3, "of": 1}
        said = await run("delete", "flags", "--env", "production", "--if-revision", "3", "--json")
        assert json.loads(said) == {"name": "flags", "deleted": True}


async def test_an_import_says_as_json_what_it_creates_and_changes(config):
    async with config() as run:
        await run.put("flags", {"on": True})
        await run.put("limits", 1)
        await run.put("same", 2)
        await run("export", "live", "--env", "production")
        await run("delete", "flags", "--env", "production")
        await run.put("limits", 3)
        there = ("import", "live", "--env", "production", "--json")
        facts = {"created": ["default/flags"], "changed": ["default/limits"], "equal": 1}
        assert json.loads(await run(*there, "--dry-run")) == facts
        assert json.loads(await run(*there)) == {"revision": 6, **facts}
        assert json.loads(await run(*there)) == {"created": [], "changed": [], "equal": 3}


async def test_an_edited_document_is_written_at_the_revision_that_was_read(config, monkeypatch, tmp_path):
    async with config() as run:
        await run.put("flags", '{"on": false, "ratio": 1.0}', "default")
        editor(tmp_path / "ed", monkeypatch, "sed -i s/false/true/ $1; echo $1 >path")
        assert await run("edit", "flags") == "flags revision 2\n"
        assert await run("get", "flags") == '{\n  "on": true,\n  "ratio": 1.0\n}\n'
        kept = Path((tmp_path / "path").read_text().strip())
        assert not kept.exists()
        assert await run("edit", "flags") == "flags is unchanged\n"
        none = "fresh is unchanged: it does not exist, and was not created\n"
        assert await run("edit", "fresh") == none  # an absent one begins as {}
        editor(tmp_path / "ed", monkeypatch, "rm $1")
        assert "nothing was written, and it has removed /" in await run("edit", "flags", code=2)
        editor(tmp_path / "ed", monkeypatch, """echo '{"on": 1}' >$1""")
        assert await run("edit", "fresh") == "fresh revision 3\n"


async def test_what_was_never_there_has_no_history_and_a_deletion_says_that_there_was_none(config):
    async with config() as run:
        assert "nope (default) was never written" in await run("history", "nope", code=1)
        assert await run("delete", "nope") == "there was no nope (default) to delete\n"
        assert json.loads(await run("delete", "nope", "--json")) == {"name": "nope", "deleted": False}
        await run.put("flags", {"on": 1}, "default")
        assert "expected revision 7, found revision 1" in await run(
            "delete", "flags", "--if-revision", "7", code=10
        )
        assert await run("delete", "flags") == "flags is deleted\n"
        assert "(deleted)" in await run("history", "flags")


async def test_an_import_names_what_it_skips_and_opens_nothing_but_files(config, tmp_path, capfd):
    place = tmp_path / "live/default"
    place.mkdir(parents=True)
    (place / "flags.json").write_text("{}")
    (place / ".flags.json").write_text("{")
    (place / "notes.txt").write_text("")
    (tmp_path / "live/.git").mkdir()
    (tmp_path / "live/top.json").write_text("{}")
    os.mkfifo(place / "pipe.json")
    async with config() as run:
        assert (
            await run("import", "live") == "create default/flags\nrevision 1: 1 document written, 0 equal\n"
        )
        (place / "flags.json").write_bytes(b"\xef\xbb\xbf{}")
        said = await run("import", "live", code=2)
        for skipped in ("default/.flags.json", "default/notes.txt", ".git", "top.json", "default/pipe.json"):
            assert f"live/{skipped} is skipped" in said
        assert "it begins with a byte order mark (BOM)" in said


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("echo '{' >$1", 2, "must be valid JSON"),
        ("exit 3", 2, "it ended with 3"),
        ("echo '{\"on\": 1}' >$1; ./overtake", 10, "expectedVersion=1, currentVersion=2"),
    ],
)
async def test_a_text_that_is_not_written_stays_in_a_named_file(
    config, monkeypatch, tmp_path, script, code, words
):
    async with config() as run:
        await run.put("flags", {"on": False}, "default")
        (tmp_path / "overtake").write_text(
            "#!/bin/sh\ntouch overtaking; while test -e overtaking; do sleep 0.02; done\n"
        )
        (tmp_path / "overtake").chmod(0o755)
        editor(tmp_path / "ed", monkeypatch, script)
        editing = asyncio.create_task(run("edit", "flags", code=code))
        if code == 10:
            async with asyncio.timeout(30):
                while not (tmp_path / "overtaking").exists():
                    await asyncio.sleep(0.01)
            await run.put("flags", {"on": "overtaken"}, "default")
            (tmp_path / "overtaking").unlink()
        said = await editing
        assert words in said
        kept = Path(said.split("the text is in ")[1].split()[0])
        assert kept.exists()
        os.unlink(kept)


async def test_an_environment_is_exported_and_imported_in_one_revision_or_not_at_all(config, tmp_path):
    async with config() as run:
        await run.put("flags", '{"ratio": 1.0}')
        await run.put("theme.dark", ["any", "value"], namespace="lobby")
        (tmp_path / "live/lobby").mkdir(parents=True)
        (tmp_path / "live/lobby/old.json").write_text("{}")
        assert await run("export", "live", "--env", "production") == "live: 2 documents written\n"
        assert (tmp_path / "live/default/flags.json").read_text() == '{\n  "ratio": 1.0\n}\n'
        assert json.loads((tmp_path / "live/lobby/theme.dark.json").read_text()) == ["any", "value"]
        (tmp_path / "live/lobby/old.json").unlink()

        there = ("import", "live", "--env", "staging")
        shown = "create default/flags\ncreate lobby/theme.dark\n"
        assert await run(*there, "--dry-run") == f"{shown}2 documents would be written, 0 equal\n"
        assert await run("list", "--env", "staging") == "staging has no documents\n"
        (tmp_path / "live/lobby/bad.json").write_text("{")
        assert "bad.json must be valid JSON" in await run(*there, code=2)
        (tmp_path / "live/lobby/bad.json").unlink()
        assert await run(*there) == f"{shown}revision 1: 2 documents written, 0 equal\n"
        assert await run(*there) == "2 documents equal\n"
        (tmp_path / "live/default/flags.json").write_text('{"ratio": 1.5}')
        assert await run(*there, "--namespace", "lobby") == "1 document equal\n"
        assert await run(*there) == "change default/flags\nrevision 2: 1 document written, 1 equal\n"
        assert "none is no directory" in await run("import", "none", code=2)


async def test_exported_files_stay_in_step_until_their_document_is_deleted(config, tmp_path):
    file = tmp_path / "live/default/flags.json"

    async def reaches(text: str | None) -> None:
        async with asyncio.timeout(30):
            while (file.read_text() if file.exists() else None) != text:
                await asyncio.sleep(0.02)

    async with config() as run:
        await run.put("flags", {"on": 1})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cfgsync_runtime", "config", "export", "live", "--watch"),
            *("--env", "production", "--admin-socket", run._socket),
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            for value in (1, 2):
                await run.put("flags", {"on": value})
                await reaches(f'{{\n  "on": {value}\n}}\n')
            file.unlink()
            file.parent.rmdir()
            file.parent.write_text("in the way")
            await run.put("flags", {"on": 3})
            async with asyncio.timeout(30):
                while b"trying again" not in await process.stderr.readline():
                    pass
            file.parent.unlink()
            await reaches('{\n  "on": 3\n}\n')
            await run("delete", "flags", "--env", "production")
            await reaches(None)
        finally:
            process.kill()
            await process.communicate()


async def test_an_export_to_a_file_is_two_lines(config, tmp_path):
    (tmp_path / "live").write_text("")
    async with config() as run:
        await run.put("flags", {"on": 1})
        said = await run("export", "live", "--env", "production", code=2)
        assert said.splitlines()[0].endswith("live is no directory")
        assert len(said.splitlines()) == 2
        assert len((await run("export", "live/below", "--env", "production", code=8)).splitlines()) == 2


async def test_a_schema_is_set_shown_obeyed_and_removed(config, tmp_path):
    (tmp_path / "schema.json").write_text('{"properties": {"players": {"type": "integer"}}}')
    async with config() as run:
        await run.put("limits", {"players": 5}, "default")
        assert "set one: cfgsync config schema limits FILE" in await run("schema", "limits", code=1)
        assert await run("schema", "limits", "schema.json") == "limits has this schema from now on\n"
        assert json.loads(await run("schema", "limits")) == {"properties": {"players": {"type": "integer"}}}
        refused = await run("patch", "limits", '{"players": "many"}', code=2)
        assert "/players" in refused
        (tmp_path / "bad.json").write_text('{"required": ["absent"]}')
        assert "absent" in await run("schema", "limits", "bad.json", code=2)
        assert "give one of them" in await run("schema", "limits", "bad.json", "--delete", code=2)
        assert await run("schema", "limits", "--delete") == "limits has no schema\n"
        await run("patch", "limits", '{"players": "many"}')
