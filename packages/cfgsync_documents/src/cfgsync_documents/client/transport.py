"""Surface two, as a client: snapshots, the defaults of definitions, and a scope's stream of what has changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

import msgspec

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import ServerUrl, Trust, Unavailable, Version
from cfgsync_core.follow import Ask, Same, Whole
from cfgsync_core.node import AiohttpTransport, Lost, Method, ReceivedAnswer, Request
from cfgsync_core.text import cause, error_text, path_shown, plain

from ..document import Scope

ANSWER_WITHIN: Final = 15.0
SILENT_AT_MOST: Final = 45.0
"""Seconds without a line after which a stream counts as broken: the server sends one every 15."""
MAX_ANSWER: Final = 32 * 1024 * 1024


class Held(NamedTuple):
    """A document of a snapshot: its JSON, and the scope's revision that wrote it."""

    json: str
    revision: int


Contents = Mapping[str, Held]
"""From `namespace/key`."""


class StreamEvent(NamedTuple):
    """An event of a scope's stream: its name, and its data."""

    name: str
    data: str


class ConfigRefused(CfgsyncError):
    """The server refuses the request, and would refuse it again."""


class ScopeTransport:
    """Asks one server, which `ca_file` or `ca_hash` verifies. The token in `token_file` is read again for each request.

    Raises `InvalidServerUrl`, `InvalidTrust`.
    """

    def __init__(
        self, url: str, token_file: str | None = None, ca_file: str | None = None, ca_hash: str | None = None
    ) -> None:
        self._server = ServerUrl.parse(url, Trust.parse(ca_file or "", ca_hash or ""))
        self._token_file = token_file
        self._transport = AiohttpTransport(self._server, max_bytes=MAX_ANSWER)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def snapshot(self, scope: Scope, ask: Ask) -> Whole[Contents] | Same:
        """The documents of a scope. Raises `Unavailable`, `ConfigRefused`."""
        headers = {}
        if ask.known is not None and not ask.whole:
            headers = {"If-None-Match": f'"{ask.known}"', "Prefer": f"wait={int(ask.hold)}"}
        answer = await self._ask("GET", scope, "snapshot", headers, within=ask.hold + ANSWER_WITHIN)
        if answer.status == 304 and ask.known is not None:
            return Same(ask.known)
        try:
            version = Version.parse(answer.headers.get("etag", "").strip('"'))
            documents = _read_snapshot(answer.body).documents
        except (ValueError, msgspec.MsgspecError) as error:
            raise Unavailable(f"{self._server}: the answer is not a snapshot: {error_text(error)}") from error
        contents = {
            f"{one.namespace}/{one.config_key}": Held(one.content_json, one.version) for one in documents
        }
        return Whole(version, sha256(answer.body).hexdigest(), contents)

    async def sync_defaults(self, scope: Scope, defaults: Sequence[tuple[str, str, str]]) -> int:
        """Create what is missing of (namespace, key, JSON); the scope's revision. Raises `Unavailable`, `ConfigRefused`."""
        rows = [
            {"namespace": namespace, "configKey": key, "defaultContentJson": content}
            for namespace, key, content in defaults
        ]
        body = msgspec.json.encode({"defaults": rows})
        answer = await self._ask(
            "POST", scope, "defaults", {"Content-Type": "application/json"}, body, ANSWER_WITHIN
        )
        try:
            return _read_created(answer.body).version
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._server}: the answer is not SyncDefaults': {error}") from error

    async def events(self, scope: Scope) -> AsyncGenerator[StreamEvent, None]:
        """The scope's stream (`GET /v1/config/watch`) until it ends. Raises `Unavailable`, `ConfigRefused`."""
        query = urlencode({"app": scope.app, "env": scope.environment})
        headers = {"Accept": "text/event-stream", **self._authorization()}
        request = Request(
            f"/v1/config/watch?{query}", headers, b"", SILENT_AT_MOST, ANSWER_WITHIN, method="GET"
        )
        name = ""
        try:
            async with self._transport.stream(request) as (answer, lines):
                self._checked(answer)
                async for line in lines:
                    field, _, value = line.partition(":")
                    value = value.removeprefix(" ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield StreamEvent(name or "message", value)
                    elif not line:
                        name = ""
        except Lost as error:
            raise Unavailable(f"{self._server}: {error}") from error

    async def _ask(
        self,
        method: Method,
        scope: Scope,
        what: str,
        headers: dict[str, str],
        body: bytes = b"",
        within: float = 0.0,
    ) -> ReceivedAnswer:
        path = f"/v1/config/apps/{scope.app}/envs/{scope.environment}/{what}"
        request = Request(path, headers | self._authorization(), body, within, within, method=method)
        try:
            answer = await self._transport.send(request)
        except Lost as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise Unavailable(f"{self._server}: {error}{hint}") from error
        if answer.cut:
            raise Unavailable(f"{self._server}: the answer is over {MAX_ANSWER} bytes")
        return self._checked(answer)

    def _checked(self, answer: ReceivedAnswer) -> ReceivedAnswer:
        if answer.status in (200, 304):
            return answer
        why = f"{self._server} answers {answer.status}: {_detail(answer.body)}"
        is_final = 400 <= answer.status < 500 and answer.status != 429
        raise (ConfigRefused if is_final else Unavailable)(why)

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {Path(self._token_file).read_text().strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            why = cause(error) if isinstance(error, OSError) else "not text"
            raise Unavailable(f"the token file {path_shown(self._token_file)}: {why}") from error


class _Document(msgspec.Struct, rename="camel"):
    namespace: str
    config_key: str
    content_json: str
    version: int


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
