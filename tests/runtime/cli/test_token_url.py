"""The URL in the line that `cfgsync token create` prints is one that other machines can use, or is called a guess."""

from __future__ import annotations

import socket

import pytest

from cfgsync_core import ServerUrl
from cfgsync_runtime.cli.app import run
from cfgsync_runtime.cli.token import _Made, _reachable


@pytest.mark.parametrize(
    ("asked", "scheme", "names", "url", "is_guess"),
    [
        ("http://127.0.0.1:4400", "http", (), "http://HERE:4400", True),
        ("http://127.0.0.1:4400", "https", ("HERE",), "https://HERE:4400", True),
        ("http://127.0.0.1:4400", "https", ("boot.example.net",), "https://boot.example.net:4400", True),
        ("http://127.0.0.1:4400", "https", ("localhost", "*.x", "10.0.0.5"), "https://10.0.0.5:4400", True),
        ("http://127.0.0.1:4400", "https", ("fd00::5",), "https://[fd00::5]:4400", True),
        ("http://127.0.0.1:4400", "https", ("localhost",), "https://HERE:4400", True),
        ("https://boot.example.net:4400", "https", ("other",), "https://boot.example.net:4400", False),
    ],
)
def test_the_url_is_a_name_of_the_certificate_for_others(
    asked: str, scheme: str, names: tuple[str, ...], url: str, is_guess: bool
) -> None:
    here = socket.gethostname()
    named = tuple(here if name == "HERE" else name for name in names)
    made = _Made("id", "join", "", "*", 1, 1, "", token="t", scheme=scheme, names=named)
    assert _reachable(ServerUrl.parse(asked), made) == (url.replace("HERE", here), is_guess)


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--role boss", "--role"),
        ("", "--for"),
        ("--role reader", "--name"),
        ("--role writer --name w", "--scope"),
        ("--role operator --name ana --uses 2", "--uses"),
    ],
)
def test_flags_that_do_not_fit_the_role_are_named_before_a_server_is_asked(
    line: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["token", "create", *line.split()]) == 2
    assert flag in capsys.readouterr().err
