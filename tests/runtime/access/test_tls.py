"""A server's certificate is read again when its files change, and a pair that cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from cfgsync_core import FleetStatus, StaticConfigSource
from cfgsync_runtime import InputError, ServerCertificate, serving_source
from cfgsync_runtime.access.insecure import ProtectionStatus
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def followed(pair: tuple[Path, Path]) -> AsyncIterator[ServerCertificate]:
    made = ServerCertificate(str(pair[0]), str(pair[1]), look_every=0.01)
    following = asyncio.create_task(made.follow())
    try:
        yield made
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def until(made: ServerCertificate, reloads: int, refused: bool) -> None:
    async with asyncio.timeout(30):
        while (made.reloads, made.is_refused) != (reloads, refused):
            await asyncio.sleep(0.01)


async def test_a_replaced_pair_is_taken_and_a_mismatching_or_broken_one_is_not(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cfgsync")
    cert, key = authority.pair(stem="live")
    other, _ = authority.pair()
    async with followed((cert, key)) as made:
        first = made.context()
        cert.write_bytes(other.read_bytes())
        await until(made, 0, True)
        assert made.context() is first
        assert made.status().problem
        assert "does not belong to the certificate" in caplog.text
        cert.write_text("nothing")
        await asyncio.sleep(0.1)
        key.unlink()
        await until(made, 0, True)
        authority.pair(stem="live", ends=90)
        await until(made, 1, False)
        assert made.context() is not first
        assert made.days_left == 89
        assert made.status().problem == ""
        assert "the certificate is read again; it ends in 89 days" in caplog.text


async def test_a_pair_behind_a_replaced_symbolic_link_is_taken(authority: Authority, tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: the files are links into `..data`, a link that is replaced as a whole."""
    for name, days in (("one", 30), ("two", 60)):
        (tmp_path / name).mkdir()
        cert, key = authority.pair(ends=days)
        cert.rename(tmp_path / name / "tls.crt")
        key.rename(tmp_path / name / "tls.key")
    (tmp_path / "..data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with followed((tmp_path / "tls.crt", tmp_path / "tls.key")) as made:
        assert made.days_left == 29
        (tmp_path / "next").symlink_to("two")
        os.replace(tmp_path / "next", tmp_path / "..data")
        await until(made, 1, False)
        assert made.days_left == 59


def test_what_cannot_be_used_is_refused_with_its_file(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.pair()
    _, other = authority.pair()
    text = tmp_path / "text"
    text.write_text("hello")
    locked = tmp_path / "locked.key"
    secret = load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for pair, sentence in (
        ((pipe, key), "pipe is no regular file"),
        ((cert, pipe), "pipe is no regular file"),
        ((Path("/dev/zero"), key), "/dev/zero is no regular file"),
        ((tmp_path / "absent.pem", key), "absent.pem: no such file or directory"),
        ((cert, tmp_path / "absent.key"), "absent.key: no such file or directory"),
        ((key, cert), "there is a key in it, and no certificate"),
        ((cert, cert), "there is a certificate in it, and no key"),
        ((text, key), "there is no certificate in PEM in it"),
        ((cert, text), "are not a certificate and its key in PEM"),
        ((cert, other), "does not belong to the certificate"),
        ((cert, locked), "locked.key is encrypted"),
    ):
        with pytest.raises(InputError, match=sentence) as refused:
            ServerCertificate(str(pair[0]), str(pair[1]))
        assert "cfgsync tls init" in refused.value.hint


async def test_the_log_says_that_a_certificate_which_is_read_again_has_expired(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = ServerCertificate(*map(str, authority.pair(stem="live")))
    authority.pair(stem="live", begins=-9, ends=-1.5)
    await made.reload()
    assert "the certificate is read again; it has expired" in caplog.text


def test_a_key_that_every_user_may_read_is_a_warning_and_one_of_a_group_is_not(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = authority.pair()
    for mode in (0o600, 0o440, 0o644):
        key.chmod(mode)
        ServerCertificate(str(cert), str(key))
    (warning,) = [record for record in caplog.records if "every user" in record.message]
    assert warning.getMessage().endswith(f"run: chmod 600 {key}")


def test_a_certificate_that_ends_soon_or_has_ended_is_a_warning(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    for days in (30.5, 29.5, 3.5, -0.5):
        pair = authority.pair(begins=-9, ends=days)
        ServerCertificate(str(pair[0]), str(pair[1]))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "TLS: the certificate ends in 29 days",
        "TLS: the certificate ends in 3 days",
        "TLS: the certificate has expired",
    ]


def test_a_server_takes_tls_1_2_and_newer_only_and_no_second_handshake(authority: Authority) -> None:
    pair = authority.pair()
    context = ServerCertificate(str(pair[0]), str(pair[1])).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_the_status_of_a_server_says_when_its_certificate_ends(authority: Authority) -> None:
    pair = authority.pair(ends=20.5)
    made = ServerCertificate(str(pair[0]), str(pair[1]))
    source = StaticConfigSource({})
    fleet: FleetStatus = ProtectionStatus(source, (), {}, made.status).fleet(10, "")
    assert fleet.tls == made.status()
    assert made.status().days_left == 20
    async with serving_source(source, source, tls=made) as server:
        assert server.url.startswith("https://127.0.0.1:")


def test_the_certificate_of_a_ca_which_names_no_host_is_a_warning(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "ca.key"
    key.touch(0o600)
    key.write_bytes(authority.private_pem())
    ServerCertificate(str(authority.file), str(key))
    assert (
        f"the certificate in {authority.file} names no host, as a CA's: every node refuses it" in caplog.text
    )
    caplog.clear()
    ServerCertificate(*map(str, authority.pair(ends=90)))
    assert caplog.text == ""


def test_a_certificate_that_is_not_valid_yet_is_a_warning(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = authority.pair(begins=1, ends=60)
    one = ServerCertificate(str(cert), str(key))
    assert one.days_left > 30
    (warning,) = caplog.records
    assert "is not valid before" in warning.getMessage()
