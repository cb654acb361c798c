"""A loopback address is said once, where nodes on other machines are told it."""

from __future__ import annotations

import logging

import pytest

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core import MemoryStore
from tests.adapter.fleets import ReadyAt, node


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.1.1", "::1"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_loopback_address_among_others_is_warned_of_once_and_shown(
    ip: str, is_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [node("here", ip), node("there", "10.0.0.2")]
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        for one in nodes if is_first else reversed(nodes):
            await source.register(one)
        await source.register(node("third", "10.0.0.3"))
        (line,) = warned(caplog)
        assert line.startswith(f"here has a loopback address ({ip})")
        assert "loopback" in source.node("here").reason
        assert "loopback" not in source.node("there").reason
        await source.register(node("here", "10.0.0.1"))
        assert "loopback" not in source.node("here").reason


async def test_a_fleet_on_one_machine_hears_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        for name in ("a", "b"):
            await source.register(node(name, "127.0.0.1"))
        assert "loopback" not in source.node("a").reason
    assert warned(caplog) == []


async def test_a_restarted_server_knows_it_too(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("here", "127.0.0.1"))
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("there", "10.0.0.2"))
        assert "loopback" in source.node("here").reason
    assert len(warned(caplog)) == 1
