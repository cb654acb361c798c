"""A token that the network can read on its way is said before it is sent, and is to be replaced when it was sent in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfgsync_core import ServerUrl
from cfgsync_core.node import USE_TLS
from cfgsync_runtime.cli.app import run
from cfgsync_runtime.cli.entry import main
from cfgsync_runtime.cli.parts.tokens.sent_token import token_for, use_tls

TOKEN = "cfgsync_0123456789ab_" + "A" * 43
AWAY = "http://192.0.2.7:4499"  # nobody's (RFC 5737)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(TOKEN)
    return str(tmp_path / "token")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (AWAY, AWAY),
        (f"https://a.example:1,{AWAY},http://b.example:2", f"{AWAY} and http://b.example:2"),
        ("https://192.0.2.7:4499", ""),
        ("http://127.0.0.1:4400", ""),
        ("http://localhost:4400", ""),
        ("http://[::1]:4400", ""),
    ],
)
def test_a_token_that_goes_over_a_network_without_tls_is_one_line_that_names_the_url(
    server: str, said: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token_for(ServerUrl.parse_several(server), file) == TOKEN
    line = (
        f"warning: the token is sent unencrypted to {said}: whoever reads the network has it too; use https\n"
    )
    assert capsys.readouterr().err == (line if said else "")


def test_a_file_that_every_user_may_replace_is_a_line(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in (0o600, 0o644, 0o666):
        assert capsys.readouterr().err == ""
        Path(file).chmod(mode)
        assert token_for(ServerUrl.parse("https://a.example"), file) == TOKEN
    line = f"warning: every user of this machine may replace {file}; run: chmod 600 {file}\n"
    assert capsys.readouterr().err == line


def test_without_a_token_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert token_for(ServerUrl.parse(AWAY), None) is None
    assert capsys.readouterr().err == ""


def test_where_the_port_speaks_tls_the_token_that_was_sent_is_to_be_replaced() -> None:
    assert use_tls(ServerUrl.parse(AWAY), TOKEN).startswith(
        f"{USE_TLS}; the token has been sent unencrypted: make another"
    )
    assert use_tls(ServerUrl.parse(AWAY), None) == USE_TLS
    assert use_tls(ServerUrl.parse("http://127.0.0.1:4400"), TOKEN) == USE_TLS


@pytest.mark.parametrize("words", ["status", "config list"])
def test_the_commands_that_take_a_token_say_it(
    words: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words.split(), "--server", "http://0.0.0.0:1", "--token-file", file]) == 7
    assert capsys.readouterr().err.startswith("warning: the token is sent unencrypted to http://0.0.0.0:1: ")


def test_a_fetch_says_it_before_it_asks(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(
            (
                "fetch",
                "--server",
                "http://0.0.0.0:1",
                "--token-file",
                file,
                "--id",
                "a",
                "--out",
                "o",
                "--state",
                "s",
                "--wait",
                "0.1",
            )
        )
    assert capsys.readouterr().err.startswith("warning: the token is sent unencrypted to http://0.0.0.0:1: ")
