"""The line that `cfgsync token create` prints works on another machine, or a note says what is missing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfgsync_core import ServerUrl, StaticConfigSource, Trust
from cfgsync_runtime import ServerCertificate, serving_source
from cfgsync_runtime.cli.app import run
from cfgsync_runtime.cli.parts.tokens.pasted_line import Answered, Way, way_to
from cfgsync_runtime.testing.served import Served
from tests.certificates import Authority

HASH = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
HERE = socket.gethostname()


def way(
    asked: str,
    *listens: str,
    names: tuple[str, ...] = (),
    ca_hash: str = "",
    by_socket: bool = True,
    trust: Trust | None = None,
) -> Way:
    scheme = listens[0].partition(":")[0] if listens else "http"
    url = ServerUrl.parse_several(asked).trusting(trust or Trust())
    return way_to(url, Answered(listens, scheme, ca_hash, names, by_socket))


@pytest.mark.parametrize(
    ("listens", "names", "url"),
    [
        ("http://0.0.0.0:4480", (), f"http://{HERE}:4480"),
        ("http://[::]:4480", (), f"http://{HERE}:4480"),
        ("http://10.0.0.7:4480", (), "http://10.0.0.7:4480"),
        ("https://0.0.0.0:4480", (HERE,), f"https://{HERE}:4480"),
        ("https://0.0.0.0:4480", ("boot.example.net",), "https://boot.example.net:4480"),
        ("https://0.0.0.0:4480", ("localhost", "*.x", "10.0.0.5"), "https://10.0.0.5:4480"),
        ("https://0.0.0.0:4480", ("fd00::5",), "https://[fd00::5]:4480"),
        ("https://0.0.0.0:4480", ("localhost",), f"https://{HERE}:4480"),
    ],
)
def test_without_server_the_port_is_the_server_s_own_and_the_name_is_called_a_guess(
    listens: str, names: tuple[str, ...], url: str
) -> None:
    found = way("http://127.0.0.1:4400", listens, names=names, ca_hash=HASH)
    assert found.flags == url + (f" --ca-hash {HASH}" if names else "")
    assert [note.startswith(f"{url} is a guess; give --server URL") for note in found.notes] == [True]


def test_an_old_server_does_not_say_where_it_listens_and_the_port_is_the_asked_one() -> None:
    assert way("http://127.0.0.1:4401").flags == f"http://{HERE}:4401"


def test_of_a_server_that_other_machines_cannot_reach_the_line_is_for_this_one_and_a_note_says_so() -> None:
    found = way("http://127.0.0.1:4400", "http://127.0.0.1:4444")
    assert found.flags == "http://127.0.0.1:4444"
    assert [note.partition(",")[0] for note in found.notes] == ["the server listens on 127.0.0.1 only"]
    assert "such as a proxy's" in found.notes[0]
    secure = way("http://127.0.0.1:4400", "https://127.0.0.1:4444", names=("x", "localhost"), ca_hash=HASH)
    assert secure.flags == f"https://localhost:4444 --ca-hash {HASH}"


def test_what_the_operator_gave_to_verify_the_server_is_in_the_line() -> None:
    both = Trust.parse("", f"{HASH},{OTHER}")
    given = way("https://proxy.example:443", "http://127.0.0.1:4400", trust=both)
    assert given == Way(f"https://proxy.example:443 --ca-hash {HASH} --ca-hash {OTHER}")
    here = way(
        "https://127.0.0.1:4400", "https://0.0.0.0:4400", names=("x",), ca_hash=OTHER, trust=Trust("", HASH)
    )
    assert here.flags == f"https://x:4400 --ca-hash {HASH}"


def test_a_server_whose_ca_nobody_knows_is_a_note_unless_it_was_just_verified() -> None:
    listens = "https://10.0.0.7:4410"
    unknown = way(listens, listens, names=("10.0.0.7",))
    assert unknown.flags == listens
    assert "add --ca-hash (cfgsync tls show), or --ca-file" in unknown.notes[0]
    assert way(listens, listens, names=("10.0.0.7",), by_socket=False).notes == ()
    proxied = way("https://boot.example:443", "http://127.0.0.1:4400")
    assert "what verifies https://boot.example:443 is not known here" in proxied.notes[0]


@contextmanager
def proxied(pair: tuple[Path, Path]) -> Iterator[str]:
    """The URL of something with TLS."""
    source = StaticConfigSource({})
    shown = ServerCertificate(str(pair[0]), str(pair[1]))
    with Served(lambda: serving_source(source, source, acknowledging=source, tls=shown)) as server:
        yield server.url


def test_a_ca_file_becomes_the_hash_that_the_server_shows_or_stays_a_file(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path)
    with proxied(authority.pair()) as url:
        assert way(url, url, trust=Trust(str(authority.file))).flags == f"{url} --ca-hash {authority.hash}"
        assert way(url, url, trust=Trust(str(other.file))).flags == f"{url} --ca-file {other.file}"
    with proxied(authority.pair(with_ca=False)) as url:
        found = way(url, url, trust=Trust(str(authority.file)))
    assert found.flags == f"{url} --ca-file {authority.file}"
    copy = f"copy {authority.file} to where the line is used: the server does not show its CA"
    assert found.notes[1:] == (copy,)


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--role boss", "--role"),
        ("--for nöde-*", "--for"),
        ("--for x --ttl 0", "--ttl"),
        ("--for x --ttl soon", "--ttl"),
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
