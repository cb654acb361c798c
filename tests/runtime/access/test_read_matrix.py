"""50 nodes × 50 identifiers on every route and spelling: a node reads its own files, a reader the page, and nobody anything else."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cfgsync_runtime import ServerCertificate
from tests.certificates import Authority
from tests.chaos.form import LONG
from tests.runtime.access.test_every_route import Fleet, bearer, serving

NAMES = [f"node-{n}x" for n in range(50)]
FILES = re.compile(rb"files of (node-\w+)")
BATCH = 100
"""Requests that are sent before their answers are read."""
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


class Spelling(NamedTuple):
    """A request for the files of `NAME`. `gives`: a node that is `NAME` gets its files by it, and `reads`: a reader does."""

    line: str
    body: str = ""
    header: str = ""
    gives: bool = False
    reads: bool = False


PLAIN = '{"identifier":"NAME"}'

SPELLINGS = (
    Spelling("POST /node", PLAIN, gives=True),
    Spelling("POST /node", '{"identifier":"NAME","ip":"10.0.0.1"}', gives=True),
    Spelling("POST /node", '{"identifier":"NAME","owner":"OWNER"}', "X-Node: OWNER", gives=True),
    Spelling("POST /node", '{"identifier":"NAME","Identifier":"OWNER"}', gives=True),
    Spelling("POST /node", PLAIN, "X-Forwarded-For: 127.0.0.1", gives=True),
    Spelling("POST /node", PLAIN, "X-Remote-User: NAME", gives=True),
    Spelling("POST /init-with-node", PLAIN, gives=True),
    Spelling("POST /node?identifier=OWNER", PLAIN, gives=True),
    Spelling("POST /node?", PLAIN, gives=True),
    Spelling("POST http://127.0.0.1/node", PLAIN, gives=True),
    Spelling("POST http://OWNER:OWNER@other/node", PLAIN, gives=True),
    # the name is elsewhere: the owner's own question, with NAME where somebody might look for it
    Spelling("POST /node?identifier=NAME", '{"ip":"10.0.0.1"}'),
    Spelling("POST /node/NAME", PLAIN),
    Spelling("GET /node?identifier=NAME"),
    Spelling("GET /node", PLAIN),
    Spelling("PUT /node", PLAIN),
    Spelling("HEAD /node", PLAIN),
    # other spellings of the path
    *(
        Spelling(f"POST {path}", PLAIN)
        for path in (
            *(
                "/NODE",
                "/Node",
                "/node/",
                "//node",
                "/./node",
                "/x/../node",
                "/%6eode",
                "/%6Eode",
                "/node%2f",
            ),
            *(
                "/node%00",
                "/node;x=1",
                "/node.json",
                "/node\\",
                "node",
                "*",
                "/\\node",
                "/nod%65?identifier=NAME",
            ),
            *(
                "/init-with-node/",
                "/INIT-WITH-NODE",
                "/init%2dwith-node",
                "/node%3fidentifier=NAME",
                "http://x//node",
            ),
        )
    ),
    # other spellings of the name
    *(
        Spelling("POST /node", f'{{"identifier":{text}}}')
        for text in (
            *(
                '"NAME "',
                '" NAME"',
                '"NAME."',
                '"NAME/"',
                '"./NAME"',
                '"../NAME"',
                '"NAME\\u0000"',
                '"NAME\\n"',
            ),
            *('["NAME"]', '{"NAME":1}', '"%6eNAME"', '"NAME%00"', '"*"', '"NAM?"', '""', "null"),
            *('"OWNER","identifier":"NAME"', '"NAME","identifier":"OWNER"'),
        )
    ),
    Spelling("POST /node", '{"Identifier":"NAME"}'),
    Spelling("POST /node", '{"identifier":"UPPER"}'),
    Spelling("POST /node", '["NAME"]'),
    # what is not a node's
    Spelling("GET /?node=NAME", reads=True),
    Spelling("GET /?NODE=NAME"),
    Spelling("GET /?node=UPPER"),
    Spelling("GET //?node=NAME"),
    *(
        Spelling(f"GET {path}")
        for path in (
            *(
                "/status/NAME",
                "/status/UPPER",
                "/status/NAME/",
                "/status//NAME",
                "/status/%6eNAME",
                "/STATUS/NAME",
            ),
            *("/status?node=NAME", "/status/../admin/nodes/NAME", "/admin/nodes/NAME", "/%61dmin/nodes/NAME"),
            *(
                "/ADMIN/nodes/NAME",
                "//admin/nodes/NAME",
                "/admin/nodes/NAME/",
                "/admin/nodes/NAME?contents=1",
            ),
            *(
                "/admin/generations?number=1&contents=1",
                "/admin/snapshot",
                "/admin//snapshot",
            ),
            *("http://127.0.0.1/admin/nodes/NAME", "/?generation=1", "/?from=1&to=1", "/readyz"),
        )
    ),
    Spelling("GET /status/x", header="X-Original-URL: /admin/nodes/NAME"),
    Spelling("GET /status/x", header="X-Rewrite-URL: /admin/snapshot"),
    Spelling("GET /admin/nodes/NAME", header="X-HTTP-Method-Override: POST"),
    Spelling("GET /admin/nodes/NAME", header="Host: localhost"),
    Spelling("POST /ack", '{"identifier":"NAME","generation":"x.1","digest":"sha256-x","status":"applied"}'),
)


class Asked(NamedTuple):
    spelling: Spelling
    owner: str
    name: str
    proof: str
    """The header lines by which the caller is known."""
    may: bool
    """Whether the files of `name` may be in the answer."""

    def request(self, port: int) -> bytes:
        text = self.spelling
        upper = self.name.upper()
        words = [
            one.replace("NAME", self.name).replace("OWNER", self.owner).replace("UPPER", upper)
            for one in text[:3]
        ]
        line, body, header = words
        host = "" if header.startswith("Host") else f"Host: 127.0.0.1:{port}\r\n"
        kind = "Content-Type: application/json\r\n" if body else ""
        extra = f"{header}\r\n" if header else ""
        head = f"{line} HTTP/1.1\r\n{host}{kind}{extra}{self.proof}Accept: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()


async def answers(asked: list[Asked], port: int, tls: ssl.SSLContext | None) -> list[tuple[int, bytes]]:
    """Status and body of each; a connection that the server has closed is opened again."""
    found: list[tuple[int, bytes]] = []
    while len(found) < len(asked):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 24)
        try:
            while part := asked[len(found) : len(found) + BATCH]:
                writer.write(b"".join(one.request(port) for one in part))
                for one in part:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = LENGTH.search(head)
                    has_body = length is not None and not one.spelling.line.startswith("HEAD")
                    body = await reader.readexactly(int(length[1])) if has_body and length else b""
                    found.append((int(head.split()[1]), body))
                    if b"\r\nConnection: close" in head:
                        raise ConnectionResetError
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
    return found


async def joined(fleet: Fleet) -> dict[str, str]:
    """Register all nodes; the header lines of the callers that are no node."""
    join = await fleet.token(**{"for": "node-*", "uses": 99})
    for name in NAMES:
        headers = {**bearer(secret_of(name)), "Cfgsync-Join-Token": join}
        words = {"identifier": name, "ip": "10.0.0.1"}
        assert (await fleet.tcp.post("/register", json=words, headers=headers)).status == 202
    reader = await fleet.token(role="reader", name="all")
    sent = {"token": reader}
    login = await fleet.tcp.post("/login", data=sent, allow_redirects=False)
    return {
        "nobody": "",
        "a join token": f"Authorization: Bearer {join}\r\n",
        "a join token in its header": f"Cfgsync-Join-Token: {join}\r\n",
        "a reader": f"Authorization: Bearer {reader}\r\n",
        "a session": f"Cookie: {login.headers['Set-Cookie'].partition(';')[0]}\r\n",
    }


def secret_of(name: str) -> str:
    return f"secret-of-{name}-0123456789"


def matrix(callers: dict[str, str]) -> Iterator[Asked]:
    """All pairs with the plain spelling; in the long form, with each. Else, with each other one every node asks for its own name
    and for another one: for the next in turn, so that each pair is asked with some of them."""
    for turn, spelling in enumerate(SPELLINGS):
        for at, owner in enumerate(NAMES):
            proof = f"Authorization: Bearer {secret_of(owner)}\r\n"
            for name in NAMES if not turn or LONG else {owner, NAMES[(at + turn) % len(NAMES)]}:
                yield Asked(spelling, owner, name, proof, spelling.gives and owner == name)
        for caller, proof in callers.items():
            for name in NAMES if not turn or LONG else NAMES[:2]:
                may = spelling.reads and caller in ("a reader", "a session")
                yield Asked(spelling, NAMES[0], name, proof, may)


@pytest.mark.parametrize("over", ["plain", "TLS"])
async def test_fifty_nodes_read_their_own_files_by_every_route_and_spelling_and_nobody_reads_others(
    over: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "cfgsync")  # each refused call of an operator is a line
    tls: ServerCertificate | None = None
    context: ssl.SSLContext | None = None
    if over == "TLS":
        authority = Authority(tmp_path)
        cert, key = authority.pair()
        tls = ServerCertificate(str(cert), str(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
        context.load_cert_chain(*authority.pair((NAMES[0],)))  # a certificate makes nobody a node
    began = time.monotonic()
    more = {"requires_tokens": True, "anonymous": False, "legacy_init_with_node": True, "tls": tls}
    async with serving(context, **more) as fleet:
        callers = await joined(fleet)
        asked = [one for one in matrix(callers) if tls is None or LONG or one.spelling is SPELLINGS[0]]
        each = [asked[start::4] for start in range(4)]
        parts = await asyncio.gather(*(answers(part, fleet.server.port, context) for part in each))
    surprises, given = [], 0
    for part, found in zip(each, parts, strict=True):
        for one, (status, body) in zip(part, found, strict=True):
            read = {text.decode() for text in FILES.findall(body)}
            given += one.may
            if read != ({one.name} if one.may else set()):
                surprises.append(f"{one.request(0)!r}: {status}, with the files of {read or 'nobody'}")
    print(
        f"{over}: {len(NAMES)} nodes × {len(NAMES)} identifiers, {len(callers)} other callers: {len(asked)} requests, {given} may"
        f" read files, {len(surprises)} surprises; {time.monotonic() - began:.1f} s"
    )
    assert surprises == []
    assert given >= len(NAMES)
