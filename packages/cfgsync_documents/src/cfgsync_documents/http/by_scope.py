"""Surface two, `/v1/config`: snapshots by scope for applications, and single documents with their versions for programs.

Its errors are `application/problem+json` with a `code`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from cfgsync_core.server import Body, Call, Handler, Operation, Reply, Response, Route, refusal
from cfgsync_core.wire import RequestBody

from ..document import ENVIRONMENT_SCHEMA, NAME_SCHEMA, QUERY_SCHEMA, WORD_SCHEMA, canonical
from ..errors import DocumentConflict, DocumentMissing, InvalidDocument
from ..service.documents import Documents
from ..service.history import History
from .kind_stream import KindStreams, scope_words
from .parts import MAX_BODY, refuse_misplaced
from .scope_bodies import (
    AnySchema,
    CreatedKeys,
    Defaults,
    Deleted,
    HistoryList,
    NewDocument,
    OneDocument,
    Problem,
    PutDocument,
    Rollback,
    ScopeDocuments,
    ScopeVersion,
    Snapshot,
    Writes,
    decode_as,
)
from .scope_handlers import ScopeHandlers

APP: Final = "/v1/config/apps/{app}/envs/{env}"
ADMIN: Final = "/v1/config/admin/apps/{app}/envs/{env}"
ONE: Final = "/namespaces/{ns}/documents/{key}"
MAX_MANY: Final = 16 * 1024 * 1024


def scope_routes(documents: Documents, history: History) -> list[Route]:
    """The routes of surface two."""
    handlers = ScopeHandlers(documents, history)
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
            "reader or writer",
            "Create what is missing (SyncDefaults); nothing is overwritten",
            {"200": Response((CreatedKeys,))},
            "413 415 422 507",
            body=(Defaults, MAX_MANY),
        ),
        _route(
            "GET",
            f"{ADMIN}/documents",
            handlers.list,
            "reader",
            "The documents of a scope, or of one namespace",
            {"200": Response((ScopeDocuments,))},
            query={"namespace": QUERY_SCHEMA},
        ),
        _route(
            "POST",
            f"{ADMIN}/documents",
            handlers.create,
            "writer",
            "Create a document",
            version,
            "409 413 415 422 507",
            body=(NewDocument, MAX_BODY),
        ),
        _route(
            "PUT",
            ADMIN + ONE,
            handlers.put,
            "writer",
            "Replace a document, or create it",
            version,
            "404 409 413 415 422 507",
            body=(PutDocument, MAX_BODY),
        ),
        _route(
            "DELETE",
            ADMIN + ONE,
            handlers.delete,
            "writer",
            "Delete a document",
            {"200": Response((Deleted,))},
            "404 409 422 507",
            query={"expectedVersion": {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}},
        ),
        _route(
            "POST",
            f"{ADMIN}/commit",
            handlers.commit,
            "writer",
            "Write and delete several documents in one revision, or none",
            version,
            "404 409 413 415 422 507",
            body=(Writes, MAX_MANY),
        ),
        _route(
            "GET",
            f"{ADMIN}{ONE}/history",
            handlers.history,
            "reader",
            "The values that a document had, newest first",
            {"200": Response((HistoryList,))},
            query={"limit": {"type": "integer", "minimum": 1, "maximum": 10**9 - 1}},
        ),
        _route(
            "POST",
            f"{ADMIN}{ONE}/rollback",
            handlers.rollback,
            "writer",
            "Write an earlier value again, as a new version",
            version,
            "404 409 413 415 422 507",
            body=(Rollback, MAX_BODY),
        ),
        _route(
            "GET",
            f"{ADMIN}{ONE}/schema",
            handlers.schema,
            "reader",
            "The JSON Schema that a document must fit",
            {"200": Response((AnySchema,))},
            "404",
        ),
        _route(
            "PUT",
            f"{ADMIN}{ONE}/schema",
            handlers.set_schema,
            "writer",
            "Set the JSON Schema (2020-12) that a document must fit; refused when it does not fit now",
            version,
            "413 415 422 507",
            body=(AnySchema, MAX_BODY),
        ),
        _route(
            "DELETE",
            f"{ADMIN}{ONE}/schema",
            handlers.delete_schema,
            "writer",
            "Delete the JSON Schema of a document",
            {"200": Response((Deleted,))},
            "422 507",
        ),
        _route(
            "POST",
            f"{ADMIN}/bust/{{kind}}",
            handlers.bust,
            "writer",
            "Expire every cached result of a kind",
            version,
            "404 422 507",
        ),
        _route(
            "GET",
            "/v1/config/watch",
            KindStreams(documents).watch,
            "reader",
            "Server-sent events of a scope: `hint` says look, an event of a kind expires what is cached of it",
            {"200": Response(media={"text/event-stream": {"type": "string"}})},
            query={"app": QUERY_SCHEMA, "env": QUERY_SCHEMA},
            scope=lambda call: "/".join(scope_words(call)),
            endless=True,
        ),
    ]


def _answered(handler: Handler, method: str, query: Collection[str]) -> Handler:
    async def answer(call: Call) -> Reply:
        try:
            if method != "GET":
                refuse_misplaced(call, in_query="expectedVersion" in query, has_body=method != "DELETE")
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
        except InvalidDocument as error:
            return refusal(422, "invalid_document", str(error))

    return answer


_NAMES: Final[Mapping[str, Mapping[str, Any]]] = {
    "app": WORD_SCHEMA,
    "env": ENVIRONMENT_SCHEMA,
    "ns": WORD_SCHEMA,
    "key": NAME_SCHEMA,
    "kind": WORD_SCHEMA,
}
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
_OWN: Final = ("already_exists", "version_conflict", "invalid_document")
_FIELD: Final = re.compile(r"[A-Za-z]+( must |:)|[a-z]+[A-Z/]")
"""A detail that begins with the name of a field or a scope."""


def _spelled(reply: Reply) -> Reply:
    """An error in this surface's form."""
    body = msgspec.json.decode(reply.chunks[0])
    status = 400 if reply.status == 422 and body["code"] not in _OWN else reply.status
    code, title = _TITLES.get(status) or (body["code"], body["code"].replace("_", " ").capitalize())
    detail: str = body["message"]
    if _FIELD.match(detail) is None:  # its spelling is its name
        detail = detail[:1].upper() + detail[1:]
    problem = Problem(title, status, detail, code)
    headers = {**reply.headers, "Content-Type": "application/problem+json"}
    return Reply(status, (msgspec.json.encode(problem),), headers)


def _decoder(kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    if kind is AnySchema:
        return partial(canonical, what="the schema")
    return partial(decode_as, RequestBody(kind))


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
    scope: Callable[[Call], str] = lambda call: f"{call.names['app']}/{call.names['env']}",
    endless: bool = False,
) -> Route:
    schema = {"application/problem+json": Problem.SCHEMA}
    refused = dict.fromkeys(
        ["400", "401", "403", *errors.split(), "503"], Response(description="see `code`", media=schema)
    )
    kind, at_most = body or (None, MAX_BODY)
    return Route(
        method,
        path,
        _answered(handler, method, query or ()),
        "config_watch" if endless else "config",
        access,
        None if kind is None else Body(_decoder(kind), at_most),
        Operation(summary, {**answers, **refused}, "", kind, query or {}, headers or {}, _NAMES),
        endless=endless,
        scope=scope,
        errors=_spelled,
    )
