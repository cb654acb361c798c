"""The log of the runs says what is new, and nothing twice."""

from __future__ import annotations

import logging

import pytest

from cfgsync_adapter import RegistrationConfigSource
from tests.adapter.fleets import ReadyAt, node


async def test_a_generation_that_is_kept_is_not_said_to_be_published_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    app = ReadyAt(1)
    async with RegistrationConfigSource(app) as source:
        await source.register(node("a"))
        for least, note in ((1, ""), (1, ""), (2, ""), (1, ""), (1, "other")):
            app.count, app.note = least, note
            await source.parts.operator.renew()
    assert [line.getMessage() for line in caplog.records if getattr(line, "event", "") == "run"] == [
        "published generation 1 (1 node)",
        "not ready: waiting for 2 nodes, have 1",
        "generation 1 (1 node) is unchanged: the files are the same",
        "published generation 2 (1 node)",
    ]
