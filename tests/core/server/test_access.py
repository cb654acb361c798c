"""Who is an operator, by the user at the other end of a Unix socket; and what headers can tell of a caller over TCP."""

from __future__ import annotations

import os
import socket

import pytest

from cfgsync_core.server.access import is_own_name, peer_user, why_no_operator, why_not_here
from cfgsync_core.server.route import Call


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


@pytest.mark.parametrize("user", [0, os.geteuid()])
def test_root_and_the_server_s_user_are_operators_on_its_socket(user: int) -> None:
    assert why_no_operator(Call({"Host": "attacker.example"}, peer=user)) is None


@pytest.mark.parametrize(
    ("peer", "headers", "word"),
    [
        (None, {"Host": "127.0.0.1:4400"}, "admin socket only"),
        (os.geteuid() + 1, {}, "root and the server's user only"),
        (0xFFFFFFFF, {}, "root and the server's user only"),
        (0, {"Origin": "http://127.0.0.1:4400"}, "Origin"),
        (None, {"Origin": "null"}, "Origin"),
    ],
)
def test_anybody_else_is_told_why_not(peer: int | None, headers: dict[str, str], word: str) -> None:
    assert word in (why_no_operator(Call(headers, peer=peer)) or "")


def test_the_kernel_tells_the_user_at_the_other_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_user(one) == os.geteuid()


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1:4400"}, "Origin"),
        ({"Host": "127.0.0.1", "X-Forwarded-For": "203.0.113.9"}, "proxy"),
        ({"Host": "127.0.0.1", "Via": "1.1 nginx"}, "proxy"),
        ({"Host": "attacker.example"}, "`Host`"),
    ],
)
def test_what_a_page_or_a_proxy_asks_for_comes_from_elsewhere(headers: dict[str, str], word: str) -> None:
    assert word in (why_not_here(headers) or "")
    assert why_not_here({"Host": "localhost:4400"}) is None
