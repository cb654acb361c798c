"""The one private part of `ssl` that is used, and what a hash of a CA is of."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import uvloop

from cfgsync_core import InvalidTrust, ServerUrl, Trust
from cfgsync_core.node import hash_of, looking, shown_chain
from cfgsync_core.node.requests import Lost
from cfgsync_core.node.trust.server import pin
from tests.certificates import Authority, server_context


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_chain_that_a_server_shows_can_be_read_before_it_is_verified(loop, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Fails when a Python keeps the chain elsewhere."""
    authority = Authority(tmp_path)
    pair = authority.pair()
    own, ca = (ssl.PEM_cert_to_DER_cert(f"{one}-----END CERTIFICATE-----\n") for one in _pems(pair[0]))

    async def shown() -> tuple[list[bytes], list[bytes]]:
        async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context(pair)) as server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=looking())
            by_a_loop = shown_chain(writer.get_extra_info("ssl_object"))
            writer.transport.abort()

            def blocking() -> list[bytes]:
                with (
                    socket.create_connection(("127.0.0.1", port)) as opened,
                    looking().wrap_socket(opened) as looked,
                ):
                    return shown_chain(looked)

            return by_a_loop, await asyncio.to_thread(blocking)

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(shown()) == ([own, ca], [own, ca])
    assert hash_of(ca) == authority.hash


def test_the_hash_of_the_server_s_own_certificate_is_refused_where_its_ca_is_shown_too(
    tmp_path: Path,
) -> None:
    """A node that took it would be locked out by the next renewal."""
    own, ca = (
        ssl.PEM_cert_to_DER_cert(f"{one}-----END CERTIFICATE-----\n")
        for one in _pems(Authority(tmp_path).pair()[0])
    )
    with pytest.raises(Lost, match="is the hash of the server's own certificate, and not of its CA"):
        pin(Trust.parse("", hash_of(own)), [own, ca])
    pin(Trust.parse("", hash_of(ca)), [own, ca])
    pin(Trust.parse("", f"{hash_of(own)},{hash_of(ca)}"), [own, ca])
    pin(Trust.parse("", hash_of(own)), [own])  # signed by itself, as far as this side can tell


def _pems(file: Path) -> list[str]:
    return file.read_text().split("-----END CERTIFICATE-----\n")[:-1]


def test_a_hash_is_read_in_either_case_and_nothing_else_is_one() -> None:
    assert Trust.parse("", " SHA256:" + "AB" * 32 + " ").ca_hash == "sha256:" + "ab" * 32
    for text in ("ab" * 32, "sha256:" + "ab" * 31, "sha1:" + "ab" * 20, "sha256:" + "xy" * 32):
        with pytest.raises(InvalidTrust, match="64 hexadecimal digits"):
            Trust.parse("", text)


def test_a_server_s_url_without_words_about_trust_trusts_what_the_machine_does() -> None:
    assert not ServerUrl.parse("https://boot.example").trust
    assert ServerUrl.parse("https://boot.example", Trust.parse("", "sha256:" + "ab" * 32)).trust
