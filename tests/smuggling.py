"""Requests that two readers may take for different ones, as values: what is sent, and what this server makes of it."""

from __future__ import annotations

from typing import Final, NamedTuple

HEAD: Final = (
    b"POST /node HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
)
BODY: Final = b'{"identifier":"a"}'
SIZE: Final = b"%d" % len(BODY)
HUGE: Final = b"9" * 20


class Case(NamedTuple):
    """`data` hides `%HIDDEN%`, another request, from one of two readers. `statuses` are those of this server's answers without a
    proxy, 0 for that of the other request where it is one in its own right; a connection is closed after a 400 that is the only
    one."""

    name: str
    data: bytes
    statuses: tuple[int, ...] = (400,)

    def sent(self, secret: bytes, hidden: bytes) -> bytes:
        """The bytes of the node `a`, which has this secret."""
        data = self.data.replace(b"Bearer %s", b"Bearer " + secret)
        for name, text in (
            (b"%ALL%", b"%d" % (len(BODY) + len(hidden))),
            (b"%REST%", b"%d" % len(hidden)),
            (b"%XREST%", b"%x" % len(hidden)),
            (b"%HIDDEN%", hidden),
        ):
            data = data.replace(name, text)
        return data


def _lengths(*lines: bytes) -> bytes:
    """A body with the hidden request behind it, and these header lines."""
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + BODY + b"%HIDDEN%"


def _chunked(*lines: bytes, body: bytes = b"", ends: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked body with the hidden request behind it, and these header lines."""
    head = HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return head + (body or b"%x\r\n%b\r\n" % (len(BODY), BODY)) + ends + b"%HIDDEN%"


def _chunk(size: bytes, ends: bytes = b"0\r\n\r\n") -> bytes:
    return _chunked(_TE, body=size + b"\r\n" + BODY + b"\r\n", ends=ends)


def _head(text: bytes) -> bytes:
    """Another head before a body and the hidden request."""
    return text + BODY + b"%HIDDEN%"


_TE: Final = b"Transfer-Encoding: chunked"
_CL: Final = b"Content-Length: " + SIZE
_X: Final = b"%x" % len(BODY)
_ONE: Final = HEAD + _CL + b"\r\n"
"""The head of a right request, without its empty line."""

CASES: Final = (
    # two lengths
    Case("two lengths, the shorter first", _lengths(_CL, b"Content-Length: %ALL%")),
    Case("two lengths, the longer first", _lengths(b"Content-Length: %ALL%", _CL)),
    Case("the same length twice", _lengths(_CL, _CL)),
    Case("a list of lengths", _lengths(b"Content-Length: " + SIZE + b", " + SIZE)),
    Case("a list of two lengths", _lengths(b"Content-Length: " + SIZE + b", %ALL%")),
    Case("a length with a sign", _lengths(b"Content-Length: +" + SIZE)),
    Case("a negative length", _lengths(b"Content-Length: -1")),
    Case("a hexadecimal length", _lengths(b"Content-Length: 0x" + _X)),
    Case("a length with an underscore", _lengths(b"Content-Length: 1_8")),
    Case("a length in two parts", _lengths(b"Content-Length: 1 8")),
    Case("a length of other digits", _lengths("Content-Length: １８".encode())),
    Case("a length beyond 64 bits", _lengths(b"Content-Length: " + HUGE)),
    Case("an empty length", _lengths(b"Content-Length:")),
    Case("a length behind a bare line feed", _lengths(_CL + b"\nContent-Length: %ALL%")),
    Case("a length behind a bare return", _lengths(_CL + b"\rContent-Length: %ALL%")),
    # a length and a transfer coding
    Case("a length, then chunks", _chunked(b"Content-Length: %ALL%", _TE)),
    Case("chunks, then a length", _chunked(_TE, b"Content-Length: %ALL%")),
    Case("a length of nothing, then chunks", _chunked(b"Content-Length: 0", _TE)),
    Case("identity and a length", _lengths(b"Transfer-Encoding: identity", _CL)),
    Case("an unknown coding and a length", _lengths(b"Transfer-Encoding: xchunked", _CL)),
    Case("chunks that are not the last coding", _chunked(b"Transfer-Encoding: chunked, identity")),
    Case("chunks twice", _chunked(b"Transfer-Encoding: chunked, chunked")),
    Case("two codings in two lines", _chunked(_TE, b"Transfer-Encoding: identity")),
    Case("a coding before chunks", _chunked(b"Transfer-Encoding: gzip, chunked"), (200, 0)),
    Case("a coding in quotation marks", _chunked(b'Transfer-Encoding: "chunked"')),
    Case("a coding with a parameter", _chunked(b"Transfer-Encoding: chunked;q=1")),
    Case("a coding after a vertical tab", _chunked(b"Transfer-Encoding:\x0bchunked")),
    Case("a coding before a form feed", _chunked(b"Transfer-Encoding: chunked\x0c")),
    Case("a coding with a blank before its colon", _chunked(b"Transfer-Encoding : chunked", _CL)),
    Case("a coding in a folded line", _chunked(b"Transfer-Encoding:\r\n chunked")),
    Case("a coding in a folded line, and a length", _lengths(b"X: y\r\n " + _TE, _CL)),
    Case("chunks in HTTP/1.0", _chunked(_TE).replace(b"HTTP/1.1", b"HTTP/1.0")),
    # chunks
    Case("chunks", _chunked(_TE), (200, 0)),
    Case("chunks in capitals", _chunked(b"TRANSFER-ENCODING: CHUNKED"), (200, 0)),
    Case("a size with 0x", _chunk(b"0x" + _X)),
    Case("a size with a sign", _chunk(b"+" + _X)),
    Case("a negative size", _chunk(b"-" + _X)),
    Case("a size after a blank", _chunk(b" " + _X)),
    Case("a size before a blank", _chunk(_X + b" ")),
    Case("a size with an underscore", _chunk(b"1_2")),
    Case("a size that is empty", _chunk(b"")),
    Case("a size that is a word", _chunk(b"g")),
    Case("a size with zeros before it", _chunk(b"0" * 8 + _X), (200, 0)),
    Case("a size with many zeros before it", _chunk(b"0" * 30 + _X), (200, 0)),
    Case("a size beyond 64 bits", _chunk(b"1" + b"0" * 16 + _X)),
    Case("a size of nearly 64 bits", _chunk(b"F" * 16), ()),
    Case("a size larger than the chunk", _chunked(_TE, body=b"%XREST%\r\n" + BODY + b"\r\n")),
    Case("a size smaller than the chunk", _chunk(b"5")),
    Case("an extension", _chunk(_X + b";name=value"), (200, 0)),
    Case("an extension with a bare line feed", _chunk(_X + b";\n" + BODY + b"\r\n0\r\n\r\n%HIDDEN%")),
    Case("an extension with a bare return", _chunk(_X + b";a\rb")),
    Case("an extension with a line in quotation marks", _chunk(_X + b';a="\r\n"')),
    Case("an extension without a name", _chunk(_X + b";")),
    Case("an extension of 10,000 bytes", _chunk(_X + b";" + b"x" * 10_000), (200, 0)),
    Case("a chunk that ends with a bare line feed", _chunked(_TE, body=_X + b"\n" + BODY + b"\n")),
    Case("a last chunk that ends with bare line feeds", _chunk(_X, ends=b"0\n\n")),
    Case("a chunk without its end", _chunked(_TE, body=_X + b"\r\n" + BODY)),
    Case("a last chunk with an extension", _chunk(_X, ends=b"0;x=y\r\n\r\n"), (200, 0)),
    Case("a trailer", _chunk(_X, ends=b"0\r\nX-Trailer: y\r\n\r\n"), (200, 0)),
    Case("a length in a trailer", _chunk(_X, ends=b"0\r\nContent-Length: %REST%\r\n\r\n")),
    # lines
    Case("a folded header", _head(_ONE + b"X: y\r\n z\r\n\r\n")),
    Case("a first header that begins with a blank", _head(_ONE.replace(b"Host", b" Host", 1) + b"\r\n")),
    Case("an empty line with a blank in it", _head(_ONE + b" \r\n")),
    Case("bare line feeds", _head(_ONE.replace(b"\r\n", b"\n") + b"\n")),
    Case("an end of bare line feeds", _head(_ONE + b"\n")),
    Case("a bare return in a header", _head(_ONE + b"X: y\rz\r\n\r\n")),
    Case("bare returns as ends of lines", _head(_ONE.replace(b"\r\n", b"\r") + b"\r\r")),
    Case("a zero byte in a header", _head(_ONE + b"X: y\0z\r\n\r\n")),
    Case("a zero byte in a header's name", _head(_ONE + b"X\0: y\r\n\r\n")),
    Case("a zero byte in a target", _head(_ONE.replace(b"/node", b"/no\0de") + b"\r\n")),
    Case("a blank before a colon", _head(_ONE + b"X : y\r\n\r\n")),
    Case("a tab before a colon", _head(_ONE + b"X\t: y\r\n\r\n")),
    Case("a header without a colon", _head(_ONE + b"X\r\n\r\n")),
    Case("a header without a name", _head(_ONE + b": y\r\n\r\n")),
    Case("a header's name of other letters", _head(_ONE + "Content-Längth: 1\r\n\r\n".encode())),
    Case("an empty line first", _head(b"\r\n" + _ONE + b"\r\n"), (200, 0)),
    Case("a line of another protocol first", _head(b"HELO x\r\n" + _ONE + b"\r\n")),
    # whose request it is
    Case("two hosts", _head(_ONE + b"Host: y\r\n\r\n")),
    Case("the same host twice", _head(_ONE + b"Host: x\r\n\r\n")),
    Case("no host", _head(_ONE.replace(b"Host: x\r\n", b"") + b"\r\n")),
    Case("a list of hosts", _head(_ONE.replace(b"Host: x", b"Host: x, y") + b"\r\n"), (200, 0)),
    Case("a host with a blank in it", _head(_ONE.replace(b"Host: x", b"Host: x y") + b"\r\n"), (200, 0)),
    Case("a target of another host", _head(_ONE.replace(b"/node", b"http://other/node") + b"\r\n"), (200, 0)),
    Case("two authorizations", _head(_ONE + b"Authorization: Bearer other\r\n\r\n"), (400, 0)),
    Case("an authorization in two lines", _head(_ONE + b"Authorization:\r\n Bearer other\r\n\r\n")),
    Case(
        "a connection header that names the length",
        _head(_ONE + b"Connection: Content-Length\r\n\r\n"),
        (200, 0),
    ),
    Case(
        "a connection header that names the secret",
        _head(_ONE + b"Connection: Authorization\r\n\r\n"),
        (200, 0),
    ),
    # the first line
    Case("a target with a blank in it", _head(_ONE.replace(b"/node", b"/node x") + b"\r\n")),
    Case("two blanks before the version", _head(_ONE.replace(b"/node ", b"/node  ") + b"\r\n"), (200, 0)),
    Case("a tab before the version", _head(_ONE.replace(b"/node ", b"/node\t") + b"\r\n")),
    Case("HTTP/0.9", _head(b"GET /livez\r\n")),
    Case("HTTP/1.2", _head(_ONE.replace(b"HTTP/1.1", b"HTTP/1.2") + b"\r\n")),
    Case("HTTP/2.0", _head(_ONE.replace(b"HTTP/1.1", b"HTTP/2.0") + b"\r\n")),
    Case("HTTP/01.1", _head(_ONE.replace(b"HTTP/1.1", b"HTTP/01.1") + b"\r\n")),
    Case("http in small letters", _head(_ONE.replace(b"HTTP/1.1", b"http/1.1") + b"\r\n")),
    Case("the beginning of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%HIDDEN%"),
    # a body where none is expected
    Case(
        "a body on a GET", b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: %REST%\r\n\r\n%HIDDEN%", (200,)
    ),
    Case(
        "chunks on a GET",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + _TE + b"\r\n\r\n%XREST%\r\n%HIDDEN%\r\n0\r\n\r\n",
        (200,),
    ),
    Case(
        "a body on a HEAD",
        b"HEAD /livez HTTP/1.1\r\nHost: x\r\nContent-Length: %REST%\r\n\r\n%HIDDEN%",
        (200,),
    ),
    Case(
        "a body on an unknown route",
        b"POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: %REST%\r\n\r\n%HIDDEN%",
        (404,),
    ),
    Case("a request in a body", HEAD + b"Content-Length: %REST%\r\n\r\n%HIDDEN%"),
    Case(
        "a body after Expect",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %REST%\r\n\r\n%HIDDEN%",
        (200,),
    ),
    Case(
        "an upgrade with a body",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %REST%\r\n\r\n%HIDDEN%",
        (200,),
    ),
    Case(
        "an upgrade to HTTP/2",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n%HIDDEN%",
        (200,),
    ),
    Case("a connection to elsewhere", b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n%HIDDEN%", (404, 0)),
    # two right requests
    Case("two requests at once", _head(_ONE + b"\r\n"), (200, 0)),
)
