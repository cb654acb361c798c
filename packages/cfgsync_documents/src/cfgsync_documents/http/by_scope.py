"""Surface two, `/v1/config`: snapshots by scope for applications, and single documents with their versions for programs.

Its errors are `application/problem+json` with a `code`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec

from cfgsync_core import InvalidRequest
from cfgsync_core.server import Body, Call, Handler, Operation, Reply, Response, Route, refusal
from cfgsync_core.wire import RequestBody

from ..document import Document, DocumentName, Scope
from ..errors import DocumentConflict, DocumentMissing
from ..service.documents import Documents, ScopeSnapshot
from ..service.history import MAX_ENTRIES, History
from .parts import MAX_BODY, is_known, newest, writer_of
from .scope_bodies import (
    Created,
    CreatedKeys,
    Defaults,
    Deleted,
    HistoryList,
    NewDocument,
    OneDocument,
    PastVersion,
    Problem,
    PutDocument,
    Rollback,
    ScopeDocuments,
    ScopeVersion,
    Snapshot,
    Writes,
    decode_as,
    expected_version,
)

APP: Final = "/v1/config/apps/{app}/envs/{env}"
ADMIN: Final = "/v1/config/admin/apps/{app}/envs/{env}"
ONE: Final = "/namespaces/{ns}/documents/{key}"
MAX_MANY: Final = 16 * 1024 * 1024


def scope_routes(documents: Documents, history: History) -> list[Route]:
    """The routes of surface two."""
    handlers = _ByScope(documents, history)
    version = {"200": Response((ScopeVersion,))}
    etag = {"If-None-Match": '"<epoch>.<revision>"', "Prefer": "wait=20"}
    snapshot = {"200": Response((Snapshot,)), "304": Response(description="unchanged")}
    return [
        _route(
            "GET",
            f"{APP}/snapshot",
            handlers.snapshot,
            "reader",
            "The documents of a scope",
            snapshot,
            headers=etag,
        ),
        _route(
            "GET",
            f"{APP}/namespaces/{{ns}}/snapshot",
            handlers.snapshot,
            "reader",
            "The documents of a namespace, with the scope's version",
            snapshot,
            headers=etag,
        ),
        _route(
            "GET", APP + ONE, handlers.one, "reader", "One document", {"200": Response((OneDocument,))}, "404"
        ),
        _route(
            "POST",
            f"{APP}/defaults",
            handlers.defaults,
            "reader",
            "Create what is missing (SyncDefaults); nothing is overwritten",
            {"200": Response((CreatedKeys,))},
            "413 415 507",
            body=(Defaults, MAX_MANY),
        ),
        _route(
            "GET",
            f"{ADMIN}/documents",
            handlers.list,
            "reader",
            "The documents of a scope, or of one namespace",
            {"200": Response((ScopeDocuments,))},
            query={"namespace": {"type": "string"}},
        ),
        _route(
            "POST",
            f"{ADMIN}/documents",
            handlers.create,
            "writer",
            "Create a document",
            version,
            "409 413 415 507",
            body=(NewDocument, MAX_BODY),
        ),
        _route(
            "PUT",
            ADMIN + ONE,
            handlers.put,
            "writer",
            "Replace a document, or create it",
            version,
            "404 409 413 415 507",
            body=(PutDocument, MAX_BODY),
        ),
        _route(
            "DELETE",
            ADMIN + ONE,
            handlers.delete,
            "writer",
            "Delete a document",
            {"200": Response((Deleted,))},
            "409 507",
            query={"expectedVersion": {"type": "integer"}},
        ),
        _route(
            "POST",
            f"{ADMIN}/commit",
            handlers.commit,
            "writer",
            "Write and delete several documents in one revision, or none",
            version,
            "409 413 415 507",
            body=(Writes, MAX_MANY),
        ),
        _route(
            "GET",
            f"{ADMIN}{ONE}/history",
            handlers.history,
            "reader",
            "The values that a document had, newest first",
            {"200": Response((HistoryList,))},
            query={"limit": {"type": "integer"}},
        ),
        _route(
            "POST",
            f"{ADMIN}{ONE}/rollback",
            handlers.rollback,
            "writer",
            "Write an earlier value again, as a new version",
            version,
            "404 413 415 507",
            body=(Rollback, MAX_BODY),
        ),
    ]


class _ByScope:
    def __init__(self, documents: Documents, history: History) -> None:
        self._documents = documents
        self._history = history

    async def snapshot(self, call: Call) -> Reply:
        scope, namespace = _scope(call), call.names.get("ns")
        if namespace is not None:
            DocumentName.checked(scope, namespace, "any")

        def is_news(found: ScopeSnapshot) -> bool:
            return not is_known(call, found.version)

        async def read() -> ScopeSnapshot:
            return await self._documents.snapshot(scope, namespace)

        found = await newest(self._documents, scope, call, read, is_news)
        headers = {"ETag": f'"{found.version}"', "Cache-Control": "no-cache"}
        if not is_news(found):
            return Reply(304, (), headers)
        snapshot = Snapshot(found.version.revision, tuple(map(_shown, found.documents)))
        return Reply(200, (msgspec.json.encode(snapshot),), headers)

    async def one(self, call: Call) -> Reply:
        document = await self._documents.get(_name(call))
        if document is None:
            raise DocumentMissing(_name(call))
        return _json(_shown(document))

    async def defaults(self, call: Call) -> Reply:
        scope = _scope(call)
        wanted: dict[DocumentName, bytes] = {}
        for default in call.value.defaults:
            name = DocumentName.checked(scope, default.namespace, default.config_key)
            wanted.setdefault(name, default.content)
        while True:
            found = await self._documents.snapshot(scope)
            there = {document.name for document in found.documents}
            missing = {name: data for name, data in wanted.items() if name not in there}
            if not missing:
                return _json(CreatedKeys(found.version.revision, ()))
            try:
                done = await self._documents.commit(
                    scope, missing, writer_of(call), dict.fromkeys(missing, 0)
                )
            except DocumentConflict:
                continue  # another program created one of them
            created = tuple(Created(name.namespace, name.name) for name in missing)
            return _json(CreatedKeys(done.version.revision, created))

    async def list(self, call: Call) -> Reply:
        found = await self._documents.snapshot(_scope(call), call.query.get("namespace") or None)
        return _json(ScopeDocuments(tuple(map(_shown, found.documents))))

    async def create(self, call: Call) -> Reply:
        name = DocumentName.checked(_scope(call), call.value.namespace, call.value.config_key)
        try:
            return await self._write(call, {name: call.value.content}, {name: 0})
        except DocumentConflict as error:
            message = f"config document already exists ({name.described}, currentVersion={error.found})"
            return refusal(409, "already_exists", message)

    async def put(self, call: Call) -> Reply:
        name, expected = _name(call), call.value.expected_version
        return await self._write(
            call, {name: call.value.content}, {} if expected is None else {name: expected}
        )

    async def delete(self, call: Call) -> Reply:
        name, given = _name(call), call.query.get("expectedVersion")
        expected = {} if given is None else {name: expected_version(given)}
        if await self._documents.get(name) is None:
            version = await self._documents.version(name.scope)
            return _json(Deleted(False, version.revision))
        done = await self._documents.commit(name.scope, {name: None}, writer_of(call), expected)
        return _json(Deleted(bool(done.written), done.version.revision))

    async def commit(self, call: Call) -> Reply:
        scope = _scope(call)
        writes: dict[DocumentName, bytes | None] = {}
        expected: dict[DocumentName, int] = {}
        for write in call.value.writes:
            name = DocumentName.checked(scope, write.namespace, write.config_key)
            if name in writes:
                raise InvalidRequest(400, f"writes has {name.key} twice")
            writes[name] = write.content
            if write.expected_version is not None:
                expected[name] = write.expected_version
        return await self._write(call, writes, expected)

    async def history(self, call: Call) -> Reply:
        given = call.query.get("limit", "")
        limit = (
            min(int(given), MAX_ENTRIES)
            if given.isascii() and given.isdigit() and len(given) < 9
            else MAX_ENTRIES
        )
        entries = await self._history.read(_name(call), limit)
        return _json(
            HistoryList(
                tuple(
                    PastVersion(
                        one.revision, None if one.data is None else one.data.decode(), one.updated_at, one.by
                    )
                    for one in entries
                )
            )
        )

    async def rollback(self, call: Call) -> Reply:
        await self._history.rollback(_name(call), call.value.to_version, writer_of(call))
        return _json(ScopeVersion((await self._documents.version(_scope(call))).revision))

    async def _write(
        self, call: Call, writes: dict[DocumentName, bytes | None], expected: dict[DocumentName, int]
    ) -> Reply:
        done = await self._documents.commit(_scope(call), writes, writer_of(call), expected)
        return _json(ScopeVersion(done.version.revision))


def _scope(call: Call) -> Scope:
    return Scope.checked(call.names["app"], call.names["env"])


def _name(call: Call) -> DocumentName:
    return DocumentName.checked(_scope(call), call.names["ns"], call.names["key"])


def _shown(document: Document) -> OneDocument:
    return OneDocument(document.name.namespace, document.name.name, document.data.decode(), document.revision)


def _json(body: msgspec.Struct) -> Reply:
    return Reply(200, (msgspec.json.encode(body),))


def _answered(handler: Handler) -> Handler:
    async def answer(call: Call) -> Reply:
        try:
            return await handler(call)
        except DocumentMissing as error:
            return refusal(404, "not_found", str(error))
        except DocumentConflict as error:
            if error.found == 0 and error.expected:
                message = (
                    f"config document not found ({error.name.described}, expectedVersion={error.expected})"
                )
                return refusal(404, "not_found", message)
            return refusal(409, "version_conflict", str(error))

    return answer


_TITLES: Final = {
    400: ("invalid_request", "Invalid request"),
    401: ("unauthenticated", "Unauthenticated"),
    403: ("forbidden", "Forbidden"),
    404: ("not_found", "Not found"),
    413: ("too_large", "Too large"),
    415: ("invalid_request", "Invalid request"),
    500: ("internal", "Internal error"),
    503: ("unavailable", "Service unavailable"),
    507: ("unavailable", "Service unavailable"),
}
_CONFLICTS: Final = {"already_exists": "Already exists", "version_conflict": "Version conflict"}


def _spelled(reply: Reply) -> Reply:
    """An error in this surface's form."""
    body = msgspec.json.decode(reply.chunks[0])
    status = 400 if reply.status == 422 else reply.status
    code, title = _TITLES.get(status) or (body["code"], _CONFLICTS[body["code"]])
    detail: str = body["message"]
    problem = Problem(title, status, detail[:1].upper() + detail[1:], code)
    headers = {**reply.headers, "Content-Type": "application/problem+json"}
    return Reply(status, (msgspec.json.encode(problem),), headers)


def _route(
    method: str,
    path: str,
    handler: Handler,
    access: Any,
    summary: str,
    answers: dict[str, Response],
    errors: str = "",
    *,
    headers: dict[str, str] | None = None,
    query: dict[str, dict[str, Any]] | None = None,
    body: tuple[type[msgspec.Struct], int] | None = None,
) -> Route:
    schema = {"application/problem+json": Problem.SCHEMA}
    refused = dict.fromkeys(
        ["400", "401", "403", *errors.split(), "503"], Response(description="see `code`", media=schema)
    )
    kind, at_most = body or (None, MAX_BODY)
    return Route(
        method,
        path,
        _answered(handler),
        "config",
        access,
        None if kind is None else Body(partial(decode_as, RequestBody(kind)), at_most),
        Operation(summary, {**answers, **refused}, "", kind, query or {}, headers or {}),
        scope=lambda call: f"{call.names['app']}/{call.names['env']}",
        errors=_spelled,
    )
