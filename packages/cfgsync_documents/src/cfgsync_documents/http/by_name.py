"""Surface one, `/api/v1/config`: the documents of an environment by name, as an operator and a shell script use them.

Its errors are `{"error": "…"}`. App and namespace are `default` unless the query names others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from cfgsync_core import InvalidRequest, Version
from cfgsync_core.server import Body, Call, Handler, Operation, Reply, Response, Route, refusal
from cfgsync_core.store import epoch_ms

from ..document import (
    ENVIRONMENT_SCHEMA,
    MAX_ENVIRONMENT,
    NAME_SCHEMA,
    QUERY_SCHEMA,
    Document,
    DocumentName,
    Scope,
    canonical,
    check_word,
)
from ..errors import DocumentConflict, DocumentMissing, InvalidDocument, NotAnObject
from ..merge import rfc7396, shallow
from ..service.documents import Documents
from . import watch_socket
from .name_bodies import Config, ConfigError, ConfigList, ConfigObject, ListedConfig, WrittenConfig
from .parts import MAX_BODY, is_known, newest, tagged, writer_of

LIST: Final = "/api/v1/config"
ONE: Final = "/api/v1/config/{name}"
WATCH_ALL: Final = "/api/v1/config/watch"
WATCH_ONE: Final = "/api/v1/config/{name}/watch"
DEFAULT: Final = "default"
ENVIRONMENT: Final = ("X-Cfgsync-Environment", "X-Ironflow-Environment")
MERGE_PATCH: Final = "application/merge-patch+json"


def name_routes(documents: Documents) -> list[Route]:
    """The routes of surface one."""
    handlers = _ByName(documents)
    written = {"200": Response((WrittenConfig,))}
    with_match: dict[str, Any] = {"If-Match": _REVISION}
    return [
        _route(
            "GET",
            LIST,
            handlers.list,
            "reader",
            "The documents of an environment",
            {"200": Response((ConfigList,))},
        ),
        _route(
            "GET",
            ONE,
            handlers.get,
            "reader",
            "One document; with `Prefer: wait` a 304 is held until it changes",
            {"200": Response((Config,)), "304": Response(description="unchanged")},
            "400 401 403 404 503",
            headers={"If-None-Match": '"<epoch>.<revision>"', "Prefer": "wait=20"},
        ),
        _route(
            "POST",
            ONE,
            handlers.set,
            "writer",
            "Replace a document",
            written,
            "400 401 403 412 413 415 422 503 507",
            headers={**with_match, "If-None-Match": {"type": "string", "enum": ["*"]}},
            body=_BODY,
        ),
        _route(
            "PATCH",
            ONE,
            handlers.patch,
            "writer",
            f"Merge into a document: its top-level members, or with `Content-Type: {MERGE_PATCH}` by RFC 7396",
            written,
            "400 401 403 409 412 413 415 422 503 507",
            headers=with_match,
            body=_BODY,
        ),
        _route(
            "DELETE",
            ONE,
            handlers.delete,
            "writer",
            "Delete a document",
            {"204": Response(description="the document is absent")},
            "400 401 403 412 422 503 507",
            headers=with_match,
        ),
        _watching(WATCH_ALL, handlers.watch_all),
        _watching(WATCH_ONE, handlers.watch),
    ]


class _ByName:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def list(self, call: Call) -> Reply:
        found = await self._documents.snapshot(_scope(call), _namespace(call))
        listed = tuple(ListedConfig(one.name.name, one.revision, one.updated_at) for one in found.documents)
        return Reply(200, (msgspec.json.encode(ConfigList(listed)),))

    async def get(self, call: Call) -> Reply:
        name = _name(call)

        def is_news(document: Document | None) -> bool:
            return document is None or not is_known(call, document.version)

        document = await newest(self._documents, name.scope, call, lambda: self._documents.get(name), is_news)
        if document is None:
            raise DocumentMissing(name)
        headers = tagged(document.version)
        if not is_news(document):
            return Reply(304, (), headers)
        tail = msgspec.json.encode({"revision": document.revision, "updatedAt": document.updated_at})[1:]
        head = b'{"name":%b,"data":' % msgspec.json.encode(name.name)
        return Reply(200, (head + document.data + b"," + tail,), headers)

    async def set(self, call: Call) -> Reply:
        name, body, expected = _name(call), _object(call), await self._expected(call)
        return _written(name, await self._documents.set(name, body, writer_of(call), expected))

    async def patch(self, call: Call) -> Reply:
        name, body, expected = _name(call), _object(call), await self._expected(call)
        essence = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        merge = rfc7396 if essence == MERGE_PATCH else shallow
        return _written(name, await self._documents.patch(name, body, merge, writer_of(call), expected))

    async def delete(self, call: Call) -> Reply:
        await self._documents.delete(_name(call), writer_of(call), await self._expected(call))
        return Reply(204)

    async def watch(self, call: Call) -> Reply:
        name = _name(call)
        read = partial(watch_socket.one, self._documents, name)
        return Reply(200, converse=partial(watch_socket.watch, self._documents, name.scope, read))

    async def watch_all(self, call: Call) -> Reply:
        scope, namespace = _scope(call), _namespace(call)
        read = partial(watch_socket.all_of, self._documents, scope, namespace)
        return Reply(200, converse=partial(watch_socket.watch, self._documents, scope, read))

    async def _expected(self, call: Call) -> int | None:
        """The revision that the document must have: 0 for `If-None-Match: *`, that of `If-Match`, None without both."""
        match, none_match = call.headers.get("If-Match"), call.headers.get("If-None-Match")
        if none_match is not None and none_match.strip() != "*":
            raise InvalidRequest(400, "a write takes If-None-Match: * or If-Match: <revision>")
        expected = None if match is None else await self._matched(call, match.strip().strip('"'))
        if none_match is None:
            return expected
        if expected is not None:  # never both hold
            document = await self._documents.get(_name(call))
            found = 0 if document is None else document.revision
            raise DocumentConflict(_name(call), 0 if found else expected, found)
        return 0

    async def _matched(self, call: Call, tag: str) -> int:
        if "." in tag:
            try:
                version = Version.parse(tag)
                epoch_ms(version.epoch)
            except ValueError as error:
                raise InvalidRequest(400, _IF_MATCH) from error
            if version.epoch == (await self._documents.version(_scope(call))).epoch:
                return version.revision
            raise DocumentConflict(_name(call), version.revision, 0)
        if not (tag.isascii() and tag.isdigit() and 0 < len(tag) <= 18 and int(tag)):
            raise InvalidRequest(400, _IF_MATCH)
        return int(tag)


def _scope(call: Call) -> Scope:
    check_word("env", call.query.get("environment") or DEFAULT, MAX_ENVIRONMENT)  # also where a header wins
    return Scope.checked(*_scope_words(call))


def _namespace(call: Call) -> str:
    namespace = call.query.get("namespace") or DEFAULT
    check_word("namespace", namespace)
    return namespace


def _name(call: Call) -> DocumentName:
    return DocumentName.checked(_scope(call), _namespace(call), call.names["name"], field="name")


def _scope_words(call: Call) -> tuple[str, str]:
    given = [call.headers[header] for header in ENVIRONMENT if header in call.headers]
    environment = given[0] if given else call.query.get("environment") or DEFAULT
    return call.query.get("app") or DEFAULT, environment


def _object(call: Call) -> bytes:
    body: bytes = call.value
    if not body.startswith(b"{"):
        raise InvalidRequest(400, "a config must be a JSON object")
    return body


def _written(name: DocumentName, revision: int) -> Reply:
    return Reply(200, (msgspec.json.encode(WrittenConfig(name.name, revision)),))


def _answered(handler: Handler) -> Handler:
    async def answer(call: Call) -> Reply:
        try:
            return await handler(call)
        except DocumentMissing:
            return refusal(404, "not_found", "config not found")
        except DocumentConflict as error:
            body = ConfigError("config write precondition failed", error.expected, error.found)
            return Reply(412, (msgspec.json.encode(body),))
        except InvalidDocument as error:
            return refusal(422, "invalid_document", str(error))
        except NotAnObject as error:
            return refusal(409, "not_an_object", str(error))

    return answer


def _spelled(reply: Reply) -> Reply:
    """An error in this surface's form."""
    body = msgspec.json.decode(reply.chunks[0])
    if "error" in body:
        return reply
    return Reply(reply.status, (msgspec.json.encode({"error": body["message"]}),), reply.headers)


_IF_MATCH: Final = "If-Match must be a revision, such as 3, or the ETag of a GET"
_BODY: Final = Body(partial(canonical, what="the body"), MAX_BODY)
_QUERY: Final = dict.fromkeys(("environment", "app", "namespace"), QUERY_SCHEMA)
_REVISION: Final = {
    "type": "string",
    "pattern": r'^([1-9][0-9]{0,17}|"[0-7][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.[0-9]{1,18}")$',
    "examples": ["3"],
}


def _watching(path: str, handler: Handler) -> Route:
    return Route(
        "GET", path, handler, "config_watch", "reader", endless=True, scope=_scope_of, errors=_spelled
    )


def _scope_of(call: Call) -> str:
    return "/".join(_scope_words(call))


def _route(
    method: str,
    path: str,
    handler: Handler,
    access: Any,
    summary: str,
    answers: dict[str, Response],
    errors: str = "400 401 403 503",
    *,
    headers: dict[str, Any] | None = None,
    body: Body | None = None,
) -> Route:
    refused = dict.fromkeys(errors.split(), Response((ConfigError,), "see `error`"))
    operation = Operation(
        summary,
        {**answers, **refused},
        "",
        None if body is None else ConfigObject,
        _QUERY,
        {ENVIRONMENT[0]: ENVIRONMENT_SCHEMA, **(headers or {})},
        {"name": NAME_SCHEMA},
    )
    spelled: Callable[[Reply], Reply] = _spelled
    return Route(
        method,
        path,
        _answered(handler),
        "config",
        access,
        body,
        operation,
        scope=_scope_of,
        errors=spelled,
    )
