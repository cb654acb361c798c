"""The plain answer, written at once, is byte for byte what the library writes, and only the plain case is taken."""

from __future__ import annotations

import asyncio
import re

import pytest

from cfgsync_core import HttpServer
from cfgsync_core.server.route import Reply
from tests.routes import answering

REPLIES = {
    "files": Reply(
        200, (b'{"schema_version":1,', b'"files":[]}'), {"ETag": '"sha256-1"', "Cfgsync-Generation": "e.1"}
    ),
    "unchanged": Reply(304, (), {"ETag": '"sha256-1"'}),
    "registered": Reply(202, (), {"Cfgsync-Version": "e.7"}),
    "acknowledged": Reply(204),
    "not ready": Reply(425, (b'{"code":"not_ready"}',), {"Retry-After": "1", "Preference-Applied": "wait=5"}),
    "text": Reply(200, (b"up 1\n",), {"Content-Type": "text/plain; version=0.0.4"}),
    "large": Reply(200, (b"x" * 200_000,), {}),
    "a status without a name": Reply(299, (b"{}",), {}),
}
QUESTION = b'{"identifier":"a","ip":"127.0.0.1"}'


def asked(version: str, *headers: str) -> bytes:
    lines = [
        f"POST /node HTTP/{version}",
        "Host: a",
        "Content-Type: application/json",
        f"Content-Length: {len(QUESTION)}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + QUESTION


async def told(port: int, question: bytes) -> tuple[list[bytes], bytes]:
    """The lines of the head, without those that tell the time and the fate of the connection, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question)
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
    writer.close()
    lines = [line for line in head.split(b"\r\n") if not re.match(rb"(?i)(date|connection):", line)]
    assert len(lines) < len(head.split(b"\r\n")), "there is no date"
    return [lines[0], *sorted(lines[1:])], body


@pytest.mark.parametrize("name", REPLIES)
async def test_the_plain_answer_is_what_the_library_writes(name: str) -> None:
    async with HttpServer(answering(REPLIES[name]), port=0) as server:
        at_once = await told(server.port, asked("1.1"))
        by_the_library = await told(server.port, asked("1.1", "Connection: close"))
        assert at_once == by_the_library
        assert at_once[1] == b"".join(REPLIES[name].chunks)


async def test_an_answer_to_http_1_0_says_whether_the_connection_stays() -> None:
    async with HttpServer(answering(REPLIES["files"]), port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(asked("1.0", "Connection: keep-alive"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"Connection: keep-alive" in head
        writer.close()


async def test_a_header_with_a_line_in_it_never_goes_out() -> None:
    split = Reply(200, (b"{}",), {"ETag": '"a"\r\nSet-Cookie: b'})
    async with HttpServer(answering(split), port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(asked("1.1"))
        said = await asyncio.wait_for(reader.read(10_000), 10)
        assert b"Set-Cookie" not in said
        writer.close()


async def test_who_does_not_read_holds_its_own_connection_only() -> None:
    async with HttpServer(answering(Reply(200, (b"x" * 250_000,))), port=0) as server:
        _, slow = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        for _ in range(40):
            slow.write(asked("1.1"))
        assert (await told(server.port, asked("1.1")))[1] == b"x" * 250_000
        slow.transport.abort()
