"""The body of a request, read whole within its limits of size and time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ...errors import InvalidRequest

BODY_SECONDS = 10.0


FORM = "application/x-www-form-urlencoded"


async def read_body(request: web.BaseRequest, at_most: int, *, form: bool = False) -> bytes:
    """The whole body, JSON or a `form`. Raises `InvalidRequest` (413, 415, 400)."""
    kind = request.headers.get("Content-Type", "")
    if form:
        if kind.partition(";")[0].strip().lower() != FORM:
            raise InvalidRequest(415, f"Expected request with `Content-Type: {FORM}`")
    elif kind != "application/json" and not _is_json(kind):
        raise InvalidRequest(415, "Expected request with `Content-Type: application/json`")
    content = request.content
    if content.is_eof():
        body = content.read_nowait(-1)
    else:
        length = request.content_length
        if length is not None and length > at_most:
            raise InvalidRequest(413, f"the body is {length} bytes, at most {at_most} are taken")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the response itself has not begun
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while part := await content.readany():
                    parts.append(part)
                    size += len(part)
                    if size > at_most:
                        break
        except TimeoutError:
            raise InvalidRequest(400, f"the body did not come within {BODY_SECONDS:g} s") from None
        except Exception as error:
            raise InvalidRequest(400, f"the body could not be read: {type(error).__name__}") from error
        body = b"".join(parts)
    if len(body) > at_most:
        raise InvalidRequest(413, f"the body is over {at_most} bytes")
    return body


def _is_json(kind: str) -> bool:
    essence = kind.partition(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json"))
