"""A node writes nothing from a server that it cannot verify: it tries again for its whole time, and says which it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import (
    CfgsyncClient,
    FetchFailed,
    InvalidTrust,
    NodeRegistration,
    ServerUrl,
    StaticConfigSource,
    Trust,
    Unreachable,
)
from cfgsync_runtime import OutputDirectory, ServerCertificate, fetch_and_write_artifacts, serving_source
from cfgsync_runtime.node.fetch import Ending, fetch
from cfgsync_runtime.testing.served import Served
from tests.certificates import Authority, self_signed

NODE = NodeRegistration("node-1", "127.0.0.1")
OF = {"node-1": ArtifactSet([ArtifactFile("/hello", "hello")])}


class Shown(ServerCertificate):
    """Counts the handshakes."""

    times = 0

    def context(self):  # type: ignore[no-untyped-def]
        self.times += 1
        return super().context()


@contextmanager
def serving(pair: tuple[Path, Path]) -> Iterator[tuple[str, Shown]]:
    """A TLS server: its URL, with a name, and its certificate."""
    shown = Shown(str(pair[0]), str(pair[1]), look_every=0.01)
    source = StaticConfigSource(OF)
    with Served(lambda: serving_source(source, source, acknowledging=source, tls=shown)) as server:
        yield server.url.replace("127.0.0.1", "localhost"), shown


def fetched(url: str, trust: Trust, out: Path, wait: float = 5.0) -> Ending:
    return fetch(NODE, ServerUrl.parse(url, trust), OutputDirectory(str(out)), None, wait=wait)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_server_is_verified_by_its_ca_file_by_its_hash_and_by_a_self_signed_hash(
    authority: Authority, tmp_path: Path
) -> None:
    with serving(authority.pair()) as (url, shown):
        for trust in (Trust.parse(str(authority.file)), Trust.parse("", authority.hash.upper())):
            assert fetched(url, trust, tmp_path / "out").report.exit == 0
        assert fetched(url.replace("localhost", "127.0.0.1"), trust, tmp_path / "out").report.exit == 0
        assert shown.times == 1 + 2 + 1  # the hash is looked for once in a process
    cert, key, its_hash = self_signed(tmp_path)
    with serving((cert, key)) as (url, _):
        assert fetched(url, Trust.parse("", its_hash), tmp_path / "out").report.exit == 0
    assert (tmp_path / "out/current/hello").read_text() == "hello"


Case = Callable[[Path, Authority], tuple[tuple[Path, Path], str, str]]
"""The server's files, and the CA file and the hash that the node was given."""


def replaced_by_rotation(at: Path, old: Authority) -> tuple[tuple[Path, Path], str, str]:
    """The server has a certificate of a new CA with the same name; the node trusts the old one."""
    return Authority(at).pair(), str(old.file), ""


CASES: dict[str, tuple[Case, str]] = {
    "expired": (
        lambda _, ours: (ours.pair(begins=-9, ends=-1), str(ours.file), ""),
        "the server's certificate has expired",
    ),
    "not yet valid": (
        lambda _, ours: (ours.pair(begins=1), str(ours.file), ""),
        "the server's certificate is not valid yet",
    ),
    "another host": (
        lambda _, ours: (ours.pair(("elsewhere.example", "10.9.9.9")), str(ours.file), ""),
        "the server's certificate is not for localhost",
    ),
    "another CA": (
        lambda at, ours: (Authority(at, "others").pair(), str(ours.file), ""),
        "unknown CA: the server's certificate is not signed by",
    ),
    "replaced by rotation": (replaced_by_rotation, "unknown CA: the server's certificate is not signed by"),
    "another CA, by hash": (
        lambda at, ours: (Authority(at, "others").pair(), "", ours.hash),
        "unknown CA: the server shows no certificate with sha256:",
    ),
    "the CA of this machine": (
        lambda _, ours: (ours.pair(), "", ""),
        "unknown CA: the server's certificate is not signed by an authority that this machine trusts",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_certificate_that_is_not_right_is_tried_again_and_then_named_and_nothing_is_written(
    case: str, authority: Authority, tmp_path: Path
) -> None:
    make, sentence = CASES[case]
    pair, ca_file, ca_hash = make(tmp_path, authority)
    out = tmp_path / "out"
    with serving(pair) as (url, shown):
        report = fetched(url, Trust.parse(ca_file, ca_hash), out, wait=0.8).report
        tried = shown.times
        async with CfgsyncClient(url, ca_file=ca_file, ca_hash=ca_hash) as client:
            with pytest.raises(FetchFailed) as failed:
                await client.fetch(NODE, wait=0.8)
    print(f"{case}: {tried} tries, exit {report.exit}: {report.message}")
    assert (report.exit, report.reason) == (7, "unreachable")
    assert report.message.startswith(f"the server cannot be verified after 0.8 s: {sentence}")
    assert tried > 1
    assert shown.times > tried + 1
    assert isinstance(failed.value.outcome, Unreachable)
    assert str(failed.value) == report.message
    assert not out.exists()


def test_a_ca_that_a_stranger_shows_along_with_its_own_certificate_proves_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    cert, key = Authority(tmp_path).pair(with_ca=False)
    cert.write_bytes(cert.read_bytes() + authority.file.read_bytes())
    with serving((cert, key)) as (url, _):
        ending = fetched(url, Trust.parse("", authority.hash), tmp_path / "out", wait=0.8)
    assert ending.report.exit == 7
    assert "unknown CA: the server's certificate is not signed by sha256:" in ending.report.message
    assert not (tmp_path / "out").exists()


def test_a_renewed_certificate_of_the_same_ca_is_taken_without_a_word(
    authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.pair(begins=-9, ends=-1)
    with serving((cert, key)) as (url, _):
        said: list[str] = []

        def waiting(why: str) -> None:
            if not said:
                authority.pair(stem=cert.stem)
            said.append(why)

        at = ServerUrl.parse(url, Trust.parse("", authority.hash))
        ending = fetch(NODE, at, OutputDirectory(str(tmp_path / "out")), None, wait=30, waiting=waiting)
    assert ending.report.exit == 0
    assert said[0] == "the server's certificate has expired; retrying"


async def test_a_node_with_two_hashes_knows_its_server_before_and_after_the_ca_changes(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "the next one")
    both = Trust.parse("", f"{authority.hash}, {other.hash.upper()}")
    (cert, key), new = authority.pair(), other.pair()
    with serving((cert, key)) as (url, shown):
        async with CfgsyncClient(url, ca_hash=both.ca_hash) as client:
            assert (await client.fetch(NODE)).digest
            assert fetched(url, both, tmp_path / "out").report.exit == 0
            cert.write_bytes(new[0].read_bytes())
            key.write_bytes(new[1].read_bytes())
            while shown.ca_hash != other.hash:
                await asyncio.sleep(0.01)
            only_old = fetched(url, Trust.parse("", authority.hash), tmp_path / "no", wait=0.3).report
            assert (only_old.exit, "unknown CA" in only_old.message) == (7, True)
            assert fetched(url, both, tmp_path / "out").report.exit == 0
        async with CfgsyncClient(url, ca_hash=both.ca_hash) as client:
            assert (await client.fetch(NODE)).digest
    for wrong in (",", f"{other.hash},", f"{other.hash};{authority.hash}"):
        with pytest.raises(InvalidTrust, match="sha256: and 64 hexadecimal digits"):
            Trust.parse("", wrong)


def test_tls_and_plain_http_on_the_wrong_port_are_two_clear_lines(
    authority: Authority, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serving(authority.pair()) as (url, _):
        wrong = fetched(url.replace("https", "http"), Trust(), out, wait=0.3)
    assert (wrong.report.exit, wrong.report.message) == (
        7,
        "no files from the server after 0.3 s: this port speaks TLS: use https://",
    )
    assert wrong.hint == "give --server with https://"
    source = StaticConfigSource(OF)
    with Served(lambda: serving_source(source, source)) as server:
        trust = Trust.parse(str(authority.file))
        wrong = fetched(server.url.replace("http", "https"), trust, out, wait=0.3)
    assert wrong.report.exit == 7
    assert "the server answers without TLS on this port" in wrong.report.message
    assert wrong.hint.startswith("start the server with --tls-cert and --tls-key")
    assert not out.exists()


async def test_a_program_takes_a_hash_a_file_or_a_context_of_its_own(
    authority: Authority, tmp_path: Path
) -> None:
    import ssl

    own = ssl.create_default_context(cafile=str(authority.file))
    own.verify_flags &= ~ssl.VERIFY_X509_STRICT
    ways = ({"ca_hash": authority.hash}, {"ca_file": str(authority.file)}, {"ssl_context": own})
    with serving(authority.pair()) as (url, _):
        for i, way in enumerate(ways):
            written = await fetch_and_write_artifacts(
                NODE,
                url,
                OutputDirectory(str(tmp_path / f"{i}")),
                **way,  # type: ignore[arg-type]
            )
            assert len(written.paths) == 1
    with pytest.raises(ValueError, match="give one of them"):
        CfgsyncClient(url, ca_file=str(authority.file), ca_hash=authority.hash)
    with pytest.raises(ValueError, match="no such file"):
        CfgsyncClient(url, ca_file=str(tmp_path / "absent.pem"))
    with pytest.raises(ValueError, match="sha256: and 64 hexadecimal digits"):
        CfgsyncClient(url, ca_hash="sha256:abc")


def test_each_of_several_servers_is_verified_and_a_stranger_among_them_is_passed_over(
    authority: Authority, tmp_path: Path
) -> None:
    with serving(authority.pair()) as (good, _), serving(self_signed(tmp_path)[:2]) as (other, _):
        for trust in (Trust.parse(str(authority.file)), Trust.parse("", authority.hash)):
            at = ServerUrl.parse_several(f"{other},{good}").trusting(trust)
            ending = fetch(NODE, at, OutputDirectory(str(tmp_path / "out")), None, wait=10)
            assert ending.report.exit == 0, ending
        at = ServerUrl.parse_several(f"{other},{other}/again").trusting(trust)
        ending = fetch(NODE, at, OutputDirectory(str(tmp_path / "none")), None, wait=1)
        assert ending.report.exit == 7
        assert f"{other}: unknown CA" in ending.report.message
        assert "--ca-file" in ending.hint
