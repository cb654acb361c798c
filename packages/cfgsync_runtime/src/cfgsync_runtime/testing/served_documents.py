"""A real server of config documents, for tests of a program that reads some.

with serving_config({"limits": {"players": 50}}, env="production") as server:
    server.set("limits", {"players": 60})                                  # server.url is for the program
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

import msgspec

from ..compose.document_server import serving_documents
from .running_server import RunningServer

ANSWER_WITHIN: Final = 10.0


class ServedDocuments(RunningServer):
    """A server that every program of this machine may read and write. A name is that of a document in the namespace
    `default`, or `namespace/name`."""

    def __init__(self, documents: Mapping[str, object], app: str, env: str, port: int) -> None:
        super().__init__(lambda: serving_documents(port=port, open_documents=True))
        self._documents = documents
        self._scope = f"{app}/{env}"

    def _begin(self) -> None:
        for name, value in self._documents.items():
            self.set(name, value)

    def set(self, name: str, value: object) -> None:
        """Write a document: a value that is JSON, or a Struct or dataclass. Returns when a server's restart would keep it."""
        write_document(self.port, self._scope, name, value)

    def get(self, name: str) -> Any:
        """The value of a document, None for one that is absent."""
        path = _path(self._scope, name).replace("/v1/config/admin/", "/v1/config/")
        body = _asked(self.port, "GET", path, None, missing=True)
        return None if body is None else msgspec.json.decode(msgspec.json.decode(body)["contentJson"])

    def delete(self, name: str) -> None:
        """Delete a document; an absent one stays absent."""
        _asked(self.port, "DELETE", _path(self._scope, name), None)


def serving_config(
    documents: Mapping[str, object] | None = None,
    *,
    app: str = "default",
    env: str = "default",
    port: int = 0,
) -> ServedDocuments:
    """A server of these documents in one environment, on a free port: `with serving_config({"flags": {"on": True}}) as server`."""
    return ServedDocuments(documents or {}, app, env, port)


def write_document(port: int, scope: str, name: str, value: object) -> None:
    """Write a document of `app/environment`."""
    body = {"contentJson": msgspec.json.encode(value).decode()}
    _asked(port, "PUT", _path(scope, name), msgspec.json.encode(body))


def _path(scope: str, name: str) -> str:
    app, _, env = scope.partition("/")
    namespace, _, key = name.rpartition("/")
    words = (app, "envs", env, "namespaces", namespace or "default", "documents", key)
    return f"/v1/config/admin/apps/{'/'.join(quote(word, safe='') for word in words)}"


def _asked(port: int, method: str, path: str, body: bytes | None, *, missing: bool = False) -> bytes | None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_WITHIN)) as connection:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        received = answer.read()
    if missing and answer.status == 404:
        return None
    if answer.status != 200:
        raise RuntimeError(
            f"{method} {path} answered {answer.status}: {received[:500].decode(errors='replace')}"
        )
    return received
