"""`GET /openapi.json`: generated from the Structs that are the wire, so that it cannot say anything else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from ..wire.protocol import ErrorBody
from ..wire.status import FleetStatus, NodeStatus

Identifier = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9]((\.?[A-Za-z0-9_-])*\.?[A-Za-z0-9])?$", max_length=128)
]
Ip = Annotated[
    str, msgspec.Meta(extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
]  # without a zone


class Registration(msgspec.Struct):
    """A node's registration. `metadata` is any JSON value, absent when null."""

    identifier: Identifier
    ip: Ip
    metadata: Any = None


class Question(msgspec.Struct):
    """Which node is asking; a whole registration is accepted too."""

    identifier: Identifier
    ip: Ip | msgspec.UnsetType = msgspec.UNSET


class File(msgspec.Struct):
    """One file. `mode` and `encoding` are there only when they differ from 0644 and text."""

    path: str
    content: str
    mode: Annotated[str, msgspec.Meta(pattern="^0[0-7]{3}$")] = "0644"
    encoding: str = "text"


class Payload(msgspec.Struct):
    """What one node gets: node-local files first, then shared ones."""

    schema_version: int
    files: list[File]


class Ack(msgspec.Struct):
    """A node has applied, or could not apply, the files with this digest of this generation. `reason` says why it
    failed; it is cut at 1,000 characters."""

    identifier: Identifier
    generation: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[0-7][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.(0|[1-9][0-9]{0,17})$"
        ),
    ]
    digest: Annotated[str, msgspec.Meta(pattern="^sha256-[0-9a-f]{64}$")]
    status: Literal["applied", "failed"]
    reason: str | None = None


class Node(msgspec.Struct):
    """Which node is meant."""

    identifier: Identifier


class Health(msgspec.Struct):
    """Alive, or ready."""

    status: str


_DIGEST = {"description": "digest of the file set", "schema": {"type": "string"}}
_LIMIT = {
    "description": "1 to 1000; another word counts as 1000",
    "anyOf": [{"type": "integer"}, {"type": "string"}],
}
_VERSION = {
    "description": "<epoch>.<revision> of the registrations; repeated on /node, no server answers from before it",
    "schema": {"type": "string"},
}
_GENERATION = {"description": "<epoch>.<number>; absent from a static source", "schema": {"type": "string"}}


class Operation(msgspec.Struct, frozen=True):
    """One more route of the document. `body` and `answers` (by status; None is an empty one, several are alternatives)
    are the Structs that are its words, `query` the JSON schema of each parameter."""

    path: str
    method: Literal["get", "post"]
    summary: str
    answers: Mapping[str, tuple[type[msgspec.Struct], ...] | None]
    errors: str
    body: type[msgspec.Struct] | None = None
    query: Mapping[str, Mapping[str, Any]] = {}

    @property
    def words(self) -> Iterator[type[msgspec.Struct]]:
        """Every Struct in it."""
        if self.body is not None:
            yield self.body
        for kinds in self.answers.values():
            yield from kinds or ()

    def told(self) -> dict[str, Any]:
        """As the document says it."""
        parameters = [_query(name, dict(schema)) for name, schema in self.query.items()]
        answers = {status: _one_of(kinds) for status, kinds in self.answers.items()}
        return {
            "summary": self.summary,
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": _body(self.body.__name__)} if self.body is not None else {}),
            "responses": {**answers, **_errors(self.errors)},
        }


def openapi(names: Collection[str], more: Sequence[Operation] = ()) -> bytes:
    """The OpenAPI 3.1 document, as JSON, of a server whose handler table has these names, with `more` routes."""
    types = [Registration, Question, Payload, ErrorBody, FleetStatus, NodeStatus, Health, Ack, Node]
    types += dict.fromkeys(kind for operation in more for kind in operation.words)
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {
        "/register": {
            "post": {
                "summary": "Register this node; an equal registration changes nothing",
                "requestBody": _body("Registration"),
                "responses": {
                    "202": {"description": "registered, durably", "headers": {"Cfgsync-Version": _VERSION}},
                    **_errors("400 401 404 409 413 415 422 503 507"),
                },
            }
        },
        "/node": {
            "post": {
                "summary": "Get this node's files; held while not ready with `Prefer: wait=SECONDS`",
                "parameters": [
                    _header("Prefer", "wait=20"),
                    _header("If-None-Match", f'"sha256-{"0" * 64}"'),
                    _header("Cfgsync-Accept", "base64, mode"),
                    _header("Cfgsync-Version", "01890a5d-ac96-774b-bcce-b302099a8057.1"),
                ],
                "requestBody": _body("Question"),
                "responses": {
                    "200": {
                        "description": "the files",
                        "headers": {"ETag": _DIGEST, "Cfgsync-Generation": _GENERATION},
                        **_json("Payload"),
                    },
                    "304": {"description": "this node has these files"},
                    **_errors("400 401 403 404 406 413 415 422 425 500 503"),
                },
            }
        },
        "/livez": {"get": {"summary": "Alive", "responses": {"200": _ok("Health"), **_errors("400 503")}}},
        "/readyz": {
            "get": {"summary": "The store answers", "responses": {"200": _ok("Health"), **_errors("400 503")}}
        },
    }
    if "init-with-node" in names:
        paths["/init-with-node"] = {"post": {**paths["/node"]["post"], "deprecated": True}}
    if "ack" in names:
        paths["/ack"] = {
            "post": {
                "summary": "Say that this node has applied a generation, or why it could not",
                "requestBody": _body("Ack"),
                "responses": {
                    "204": {"description": "remembered, durably"},
                    **_errors("400 401 403 409 413 415 422 425 503 507"),
                },
            }
        }
    if "evict" in names:
        paths["/admin/evict"] = {
            "post": {
                "summary": "Make a node leave; its name is free, and it may register again",
                "requestBody": _body("Node"),
                "responses": {"200": _ok("Node"), **_errors("400 403 404 413 415 422 503 507")},
            }
        }
    if "status" in names:
        paths["/status"] = {
            "get": {
                "summary": "Who is here, who is missing, and why it is not ready",
                "parameters": [_query("limit", _LIMIT), _query("after", {"type": "string"})],
                "responses": {"200": _ok("FleetStatus"), **_errors("400 503")},
            }
        }
        paths["/status/{identifier}"] = {
            "get": {
                "summary": "One node, and why",
                "parameters": [
                    {"name": "identifier", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
                "responses": {"200": _ok("NodeStatus"), **_errors("400 503")},
            }
        }
    if "page" in names:
        paths["/"] = {
            "get": {
                "summary": "The fleet as a page; with `Accept: application/json`, what its grid is drawn from",
                "responses": {"200": _page(), **_errors("400 403 503")},
            }
        }
    if "metrics" in names:
        paths["/metrics"] = {
            "get": {
                "summary": "The server's figures, for Prometheus",
                "responses": {"200": _text("text/plain"), **_errors("400 503")},
            }
        }
    if "watch" in names:
        paths["/watch"] = {
            "get": {
                "summary": "Server-sent events without data: what /status says has changed",
                "responses": {"200": _text("text/event-stream"), **_errors("400 503")},
            }
        }
    for operation in more:
        paths.setdefault(operation.path, {})[operation.method] = operation.told()
    document = {
        "openapi": "3.1.0",
        "info": {"title": "cfgsync", "version": "1", "description": "Register, wait, fetch one payload."},
        "paths": paths,
        "components": {"schemas": components},
    }
    return msgspec.json.encode(document)


def _json(name: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _ok(name: str) -> dict[str, Any]:
    return {"description": "the answer", **_json(name)}


def _one_of(kinds: tuple[type[msgspec.Struct], ...] | None) -> dict[str, Any]:
    if kinds is None:
        return {"description": "done, durably"}
    if len(kinds) == 1:
        return _ok(kinds[0].__name__)
    words = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in kinds]
    return {"description": "the answer", "content": {"application/json": {"schema": {"anyOf": words}}}}


def _text(kind: str) -> dict[str, Any]:
    return {"description": "the answer", "content": {kind: {"schema": {"type": "string"}}}}


def _page() -> dict[str, Any]:
    html, words = {"schema": {"type": "string"}}, {"schema": {"type": "object"}}
    return {"description": "the answer", "content": {"text/html": html, "application/json": words}}


def _body(name: str) -> dict[str, Any]:
    return {"required": True, **_json(name)}


def _errors(statuses: str) -> dict[str, Any]:
    return {
        status: {"description": "see `code` and `message`", **_json("ErrorBody")}
        for status in statuses.split()
    }


def _header(name: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "example": example}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}
