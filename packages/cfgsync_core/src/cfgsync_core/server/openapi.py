"""`GET /openapi.json`: made from the routes and their Structs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from re import findall
from typing import Any, TypeAlias

import msgspec

from ..wire.protocol import ErrorBody
from .route import Call, Operation, Reply, Response, Route

_Schema: TypeAlias = Callable[[type[msgspec.Struct]], Mapping[str, Any]]


def documented(routes: Sequence[Route]) -> list[Route]:
    """The same routes and `GET /openapi.json`, which describes them."""
    reply = Reply(200, (openapi(routes),))

    async def document(call: Call) -> Reply:
        return reply

    return [*routes, Route("GET", "/openapi.json", document)]


def openapi(routes: Sequence[Route]) -> bytes:
    """The OpenAPI 3.1 document of these routes, as JSON."""
    described = [(route, route.operation) for route in routes if route.operation is not None]
    kinds = list(dict.fromkeys([ErrorBody, *(kind for _, one in described for kind in _kinds(one))]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema = dict(zip(kinds, schemas, strict=True)).__getitem__
    paths: dict[str, dict[str, Any]] = {}
    for route, one in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route.path, one, schema)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "cfgsync", "version": "1", "description": "Register, wait, fetch one payload."},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _kinds(operation: Operation) -> Iterator[type[msgspec.Struct]]:
    if operation.body is not None:
        yield operation.body
    for answer in operation.answers.values():
        yield from answer.kinds


def _operation(path: str, one: Operation, schema: _Schema) -> dict[str, Any]:
    text: Mapping[str, Any] = {"type": "string"}
    parameters = [
        *(
            {"name": name, "in": "path", "required": True, "schema": one.names.get(name, text)}
            for name in findall(r"{(\w+)}", path)
        ),
        *({"name": name, "in": "query", "required": False, "schema": one.query[name]} for name in one.query),
        *(
            {"name": name, "in": "header", "required": False}
            | ({"schema": text, "example": given} if isinstance(given, str) else {"schema": given})
            for name, given in one.headers.items()
        ),
    ]
    refused = Response((ErrorBody,), "see `code` and `message`")
    answers = {**one.answers, **dict.fromkeys(one.errors.split(), refused)}
    return {
        "summary": one.summary,
        **({"deprecated": True} if one.deprecated else {}),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": {"required": True, **_json(schema(one.body))}} if one.body is not None else {}),
        "responses": {status: _answer(answer, schema) for status, answer in answers.items()},
    }


def _answer(answer: Response, schema: _Schema) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = answer.headers
    if answer.media:
        described["content"] = {kind: {"schema": its} for kind, its in answer.media.items()}
    elif answer.kinds:
        schemas = [schema(kind) for kind in answer.kinds]
        described |= _json(schemas[0] if len(schemas) == 1 else {"anyOf": schemas})
    return described


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
