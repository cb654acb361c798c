"""Every write is one line in the log: who, what, from which revision to which, from where; never a value."""

from __future__ import annotations

import logging
import os
import pwd
import tempfile

import aiohttp

from cfgsync_core.log_events import event_of
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_scope import ADMIN, APP, ONE

VALUE = "a value that no log has"
BY_NAME = "/api/v1/config/limits?app=lobby&environment=prod&namespace=game"


def lines(caplog):
    found = []
    for record in caplog.records:
        name, facts = event_of(record)
        if name == "document_written":
            found.append(
                tuple(facts[key] for key in ("by", "document", "before", "revision", "deleted", "address"))
            )
    return found


async def test_every_write_is_one_line_with_who_what_when_and_from_where_and_no_value(caplog):
    caplog.set_level(logging.INFO)
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/a.sock"
        async with (
            serving_documents(admin_socket=path) as server,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            made = await unix.post(
                "/admin/token/create", json={"role": "writer", "name": "wil", "scopes": ["lobby/prod"]}
            )
            bearer = {"Authorization": f"Bearer {(await made.json())['token']}"}
            me = (pwd.getpwuid(os.geteuid()).pw_name, "admin socket")
            wil = ("wil", "127.0.0.1")
            content = {"contentJson": f'{{"x":"{VALUE}"}}'}
            default = {"namespace": "game", "configKey": "other", "defaultContentJson": "1"}
            both = [
                {"namespace": "game", "configKey": key, "contentJson": None} for key in ("limits", "other")
            ]
            async with aiohttp.ClientSession(server.url, headers=bearer) as tcp:
                for session, method, target, body in [
                    (tcp, "PUT", ONE, content),
                    (tcp, "PUT", ONE, content),  # equal: no write
                    (unix, "PATCH", BY_NAME, {"y": VALUE}),
                    (tcp, "POST", BY_NAME, {}),
                    (tcp, "POST", f"{ONE}/rollback", {"toVersion": 1}),
                    (unix, "POST", f"{APP}/defaults", {"defaults": [default]}),
                    (tcp, "POST", f"{ADMIN}/commit", {"writes": both}),
                    (tcp, "PUT", ONE, {**content, "expectedVersion": 9}),  # refused
                ]:
                    await session.request(method, target, json=body)
        limits, other = "game/limits", "game/other"
        assert sorted(lines(caplog)) == sorted(
            (by, document, before, revision, deleted, address)
            for (by, address), document, before, revision, deleted in [
                (wil, limits, 0, 1, False),
                (me, limits, 1, 2, False),
                (wil, limits, 2, 3, False),
                (wil, limits, 3, 4, False),
                (me, other, 0, 5, False),
                (wil, limits, 4, 6, True),
                (wil, other, 5, 6, True),
            ]
        )
        assert VALUE not in caplog.text
