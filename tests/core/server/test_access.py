"""Who counts as an operator, by where a request came from and what it calls the server."""

from __future__ import annotations

import socket

import pytest

from cfgsync_core.server.access import is_own_name, why_no_operator


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4400", "localhost", "LOCALHOST:80", "[::1]:4400", "10.1.2.3", "cfgsync", "a.localhost:1", "",
     socket.gethostname()],
)  # fmt: skip
def test_a_name_that_no_stranger_can_lead_here_is_ours(host: str) -> None:
    assert is_own_name(host)


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:4400", "127.0.0.1.attacker.example", "localhost.attacker.example.",
     "1.2.3", "[attacker.example]"],
)  # fmt: skip
def test_a_name_that_somebodys_name_server_answers_is_not_ours(host: str) -> None:
    assert not is_own_name(host)


def test_on_this_machine_by_its_own_name_is_an_operator() -> None:
    for remote in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.9.1"):
        assert why_no_operator(remote, {"Host": "127.0.0.1:4400"}, 4400) is None


@pytest.mark.parametrize(
    ("remote", "headers", "word"),
    [
        ("10.0.0.1", {}, "own machine"),
        (None, {}, "own machine"),
        ("127.0.0.1", {"Origin": "http://127.0.0.1:4400"}, "Origin"),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, "proxy"),
        ("127.0.0.1", {"Via": "1.1 nginx"}, "proxy"),
        ("127.0.0.1", {"Host": "attacker.example"}, "(`Host`): use http://127.0.0.1:4400"),
    ],
)
def test_anybody_else_is_told_why_not(remote: str | None, headers: dict[str, str], word: str) -> None:
    assert word in (why_no_operator(remote, headers, 4400) or "")
