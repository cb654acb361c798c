"""Surface two over aiohttp, as a client: snapshots, and the defaults of definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import ServerUrl, Unavailable, Version
from cfgsync_core.follow import Ask, Same, Whole
from cfgsync_core.text import error_text, plain

from ..document import Scope

Contents = Mapping[str, str]
"""From `namespace/key` to JSON."""

CONNECT_WITHIN: Final = 3.0
ANSWER_WITHIN: Final = 15.0
MAX_ANSWER: Final = 32 * 1024 * 1024


class ConfigRefused(CfgsyncError):
    """The server refuses the request, and would refuse it again."""


class ScopeTransport:
    """Asks one server. The token in `token_file` is read again for each request."""

    def __init__(self, url: str, token_file: str | None = None) -> None:
        self._server = ServerUrl.parse(url)
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def snapshot(self, scope: Scope, ask: Ask) -> Whole[Contents] | Same:
        """The documents of a scope. Raises `Unavailable`, `ConfigRefused`."""
        headers = {}
        if ask.known is not None and not ask.whole:
            headers = {"If-None-Match": f'"{ask.known}"', "Prefer": f"wait={int(ask.hold)}"}
        status, etag, body = await self._ask(
            "GET", scope, "snapshot", headers, within=ask.hold + ANSWER_WITHIN
        )
        if status == 304 and ask.known is not None:
            return Same(ask.known)
        try:
            version = Version.parse((etag or "").strip('"'))
            documents = _read_snapshot(body).documents
        except (ValueError, msgspec.MsgspecError) as error:
            raise Unavailable(f"{self._server}: the answer is not a snapshot: {error_text(error)}") from error
        contents = {f"{one.namespace}/{one.config_key}": one.content_json for one in documents}
        return Whole(version, sha256(body).hexdigest(), contents)

    async def sync_defaults(self, scope: Scope, defaults: Sequence[tuple[str, str, str]]) -> int:
        """Create what is missing of (namespace, key, JSON); the scope's revision. Raises `Unavailable`, `ConfigRefused`."""
        rows = [
            {"namespace": namespace, "configKey": key, "defaultContentJson": content}
            for namespace, key, content in defaults
        ]
        body = msgspec.json.encode({"defaults": rows})
        _, _, answer = await self._ask(
            "POST", scope, "defaults", {"Content-Type": "application/json"}, body, ANSWER_WITHIN
        )
        try:
            return _read_created(answer).version
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._server}: the answer is not SyncDefaults': {error}") from error

    async def _ask(
        self,
        method: str,
        scope: Scope,
        what: str,
        headers: dict[str, str],
        body: bytes = b"",
        within: float = 0.0,
    ) -> tuple[int, str | None, bytes]:
        assert self._session is not None, "the transport is not open"
        url = f"{self._server}/v1/config/apps/{scope.app}/envs/{scope.environment}/{what}"
        try:
            headers = headers | self._authorization()
            async with self._session.request(
                method,
                url,
                data=body or None,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=within, sock_connect=CONNECT_WITHIN),
            ) as answer:
                received = await _whole(answer)
                status, etag = answer.status, answer.headers.get("ETag")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self._server}: {error_text(error)}") from error
        if status in (200, 304):
            return status, etag, received
        why = f"{self._server} answers {status}: {_detail(received)}"
        raise (ConfigRefused if 400 <= status < 500 and status != 429 else Unavailable)(why)

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        return {"Authorization": f"Bearer {Path(self._token_file).read_text().strip()}"}


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body. Raises `OSError` for one that is too large."""
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER:
            raise OSError(f"the answer is over {MAX_ANSWER} bytes")
    return b"".join(parts)


class _Document(msgspec.Struct, rename="camel"):
    namespace: str
    config_key: str
    content_json: str


class _Snapshot(msgspec.Struct):
    documents: list[_Document]


class _Created(msgspec.Struct):
    version: int


def _detail(body: bytes) -> str:
    try:
        problem: Any = msgspec.json.decode(body)
        return plain(str(problem.get("detail") or problem.get("message") or ""), 300)
    except (msgspec.MsgspecError, AttributeError):
        return "not an answer of cfgsync"


_read_snapshot: Final = msgspec.json.Decoder(_Snapshot).decode
_read_created: Final = msgspec.json.Decoder(_Created).decode
