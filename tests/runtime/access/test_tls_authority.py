"""`cfgsync tls init` and `tls show`: nothing is overwritten, and a node that trusts the CA keeps trusting it."""

from __future__ import annotations

import json
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from cfgsync_runtime.access.tls_authority import is_host
from cfgsync_runtime.cli.app import run
from tests.certificates import Authority, server_context

FILES = ("ca.key", "ca.pem", "server.key", "server.pem")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


def test_a_ca_and_a_server_s_certificate_are_made_with_private_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = tmp_path / "tls"
    assert run(["tls", "init", "--host", "boot.example.net", "--host", "10.0.0.5", "--dir", str(at)]) == 0
    _, served, pinned = capsys.readouterr().out.splitlines()
    assert sorted(os.listdir(at)) == list(FILES)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in at.iterdir()}
    assert modes == {"ca.key": 0o600, "ca.pem": 0o644, "server.key": 0o600, "server.pem": 0o644}
    assert served.startswith("server.pem is for boot.example.net, 10.0.0.5, until ")
    server, ca = x509.load_pem_x509_certificates((at / "server.pem").read_bytes())
    assert (server.not_valid_after_utc - server.not_valid_before_utc).days == 397
    assert (ca.not_valid_after_utc - ca.not_valid_before_utc).days == 3650
    server.verify_directly_issued_by(ca)
    assert run(["tls", "show", str(at / "ca.pem")]) == 0
    shown = capsys.readouterr().out
    assert f"hash    {pinned.removeprefix('--ca-hash ')}\n" in shown
    assert run(["tls", "show", "--json", str(at / "server.pem")]) == 0
    words = json.loads(capsys.readouterr().out)
    assert words["ca_hash"] == pinned.removeprefix("--ca-hash ")
    assert words["certificate"]["names"] == ["boot.example.net", "10.0.0.5"]
    assert words["certificate"]["days_left"] in (396, 397)


def test_run_again_it_renews_the_server_s_certificate_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tls", "init", "--host", "a.example", "--dir", str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()
    before = contents(tmp_path)
    assert run(["tls", "init", "--dir", str(tmp_path)]) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[0] == f"wrote server.pem in {tmp_path}"
    assert "a.example" in again[1]
    assert again[2] == first[2]
    after = contents(tmp_path)
    assert [name for name in FILES if before[name] != after[name]] == ["server.pem"]
    assert run(["tls", "init", "--host", "b.example", "--dir", str(tmp_path)]) == 0
    other = capsys.readouterr().out
    assert "server.pem is for b.example, until" in other
    assert "no longer for a.example: a node that uses such a name will refuse the server\n" in other
    assert "no longer" not in "".join(first + again)


def test_what_is_in_the_way_is_refused_in_two_lines_and_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tls", "init", "--host", "a.example", "--dir", str(tmp_path)]) == 0
    whole = contents(tmp_path)
    foreign, _ = Authority(tmp_path / ".", "others").pair(stem="foreign")
    capsys.readouterr()

    def refused(*others: str) -> str:
        at = tmp_path / "at"
        before = contents(at)
        assert run(["tls", "init", "--dir", str(at), *others]) == 1
        assert contents(at) == before
        printed = capsys.readouterr()
        assert printed.out == ""
        first, second = printed.err.splitlines()
        assert second
        return first

    def given(**files: bytes) -> None:
        at = tmp_path / "at"
        at.mkdir(exist_ok=True)
        for one in at.iterdir():
            one.unlink()
        for name, content in files.items():
            (at / name.replace("_", ".")).write_bytes(content)

    for lacking in ("ca.pem", "ca.key"):
        given(**{name.replace(".", "_"): whole[name] for name in FILES if name != lacking})
        assert refused("--host", "a.example").endswith("would be overwritten")
    given(server_pem=b"mine")
    assert refused("--host", "a.example").endswith("server.pem would be overwritten")
    everything = {name.replace(".", "_"): whole[name] for name in FILES}
    given(**{**everything, "server_pem": foreign.read_bytes()})
    assert "is not signed by the CA beside it" in refused("--host", "a.example")
    given(**{**everything, "ca_key": whole["server.key"]})
    assert "is not the key of" in refused()
    given(**{**everything, "ca_key": b"nothing"})
    assert "there is no unencrypted key" in refused()
    given(ca_pem=whole["server.pem"], ca_key=whole["server.key"])
    assert "is no CA's" in refused("--host", "a.example")
    given(ca_pem=whole["ca.pem"], ca_key=whole["ca.key"])
    assert refused() == "no --host is given"
    given()
    assert refused() == "no --host is given"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("boot.example.net", True),
        ("localhost", True),
        ("*.example.net", True),
        ("10.0.0.5", True),
        ("fd00::5", True),
        ("https://boot", False),
        ("boot:4400", False),
        ("boot example", False),
        ("-boot", False),
        ("", False),
        ("a" * 64, False),
    ],
)
def test_a_host_is_a_name_or_an_address(name: str, is_one: bool, tmp_path: Path) -> None:
    assert is_host(name) is is_one
    if not is_one:
        assert run(["tls", "init", f"--host={name}", "--dir", str(tmp_path)]) == 2
        assert not list(tmp_path.iterdir())


def test_what_holds_no_certificate_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("text")
    assert run(["tls", "show", str(tmp_path / "text")]) == 2
    assert run(["tls", "show", str(tmp_path / "absent")]) == 2
    assert run(["tls", "show", "https://127.0.0.1:1"]) == 7
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("text: there is no certificate in PEM in it")


def test_a_name_that_is_given_in_two_spellings_is_there_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = ("--host=X.Example.", "--host=x.example", "--host=10.0.0.5", "--host=10.0.0.5")
    assert run(["tls", "init", *hosts, "--dir", str(tmp_path)]) == 0
    assert "server.pem is for x.example, 10.0.0.5, until" in capsys.readouterr().out


def test_a_ca_of_another_program_signs_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)  # without key identifiers
    at = tmp_path / "at"
    at.mkdir()
    (at / "ca.pem").write_bytes(authority.file.read_bytes())
    (at / "ca.key").write_bytes(authority.private_pem())
    assert run(["tls", "init", "--host", "localhost", "--dir", str(at)]) == 0
    trusting = ssl.create_default_context(cafile=str(at / "ca.pem"))
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    assert handshaken(server_context((at / "server.pem", at / "server.key")), trusting, "localhost")
    assert not handshaken(server_context((at / "server.pem", at / "server.key")), trusting, "elsewhere")


def handshaken(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bool:
    """Whether a client that expects `name` gets through a handshake, without a network."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    done = [False, False]
    for _ in range(10):
        for i, side in enumerate(sides):
            try:
                side.do_handshake()
                done[i] = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return all(done)
