"""The client of `cfgsync config`: documents by name over the admin socket or a URL, and its refusals as exit codes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import quote, urlencode

import msgspec
import typer

from cfgsync_core.node import Method, ReceivedAnswer
from cfgsync_core.text import cause, plain

from ....errors import InputError
from ..messages import NoAnswer
from ..server_client import AGAIN, ANSWER_WITHIN, NOTHING, OperatorClient
from ..server_flags import AskedServer, flag, made_of_flags

ROUTE: Final = "/api/v1/config"
APPS: Final = "/v1/config/apps"
ADMIN: Final = "/v1/config/admin/apps"
CONFLICT: Final = 10
MERGE_PATCH: Final = "application/merge-patch+json"
_CODES: Final = {400: 2, 401: 5, 403: 5, 409: CONFLICT, 412: CONFLICT, 413: 2, 415: 2, 422: 2, 503: 7, 507: 7}


DEFAULT: Final = "default"

Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Environment: TypeAlias = Annotated[
    str, typer.Option("--env", metavar="NAME", help="The environment (CFGSYNC_ENVIRONMENT).")
]
App: TypeAlias = Annotated[str, typer.Option("--app", metavar="NAME", help="The app.")]
Namespace: TypeAlias = Annotated[
    str, typer.Option("--namespace", metavar="NAME", help="The namespace in the app.")
]
IfRevision: TypeAlias = Annotated[
    int | None,
    typer.Option("--if-revision", metavar="N", min=0, help="Only at this revision; 0: only if absent."),
]


class Place(msgspec.Struct, frozen=True):
    """Where the documents of a command are."""

    environment: str = "default"
    app: str = "default"
    namespace: str = "default"

    def named(self, name: str) -> str:
        """A document for people: `theme (production)`."""
        return f"{plain(name, 200)} ({plain(self.environment, 100)})"


HERE: Final = Place()

in_a_place: Final = made_of_flags(
    "place",
    (
        flag("environment", DEFAULT, "NAME", "The environment (CFGSYNC_ENVIRONMENT).", "--env"),
        flag("app", DEFAULT, "NAME", "The app."),
        flag("namespace", DEFAULT, "NAME", "The namespace in the app."),
    ),
    Place,
)
"""For a command with a parameter `place`."""


class ScopeDocument(msgspec.Struct, frozen=True, rename="camel"):
    """A document of a scope."""

    namespace: str
    config_key: str
    content_json: str
    version: int

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.config_key}"


class ScopeDocuments(msgspec.Struct, frozen=True):
    """The documents of a scope; None when they are unchanged."""

    documents: tuple[ScopeDocument, ...] | None


class ScopeWrite(msgspec.Struct, frozen=True, rename="camel"):
    """A write at this version only, 0: only if the document is absent."""

    namespace: str
    config_key: str
    content_json: str
    expected_version: int

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.config_key}"


class ScopeRevision(msgspec.Struct, frozen=True):
    """What a commit answers."""

    version: int


class _Error(msgspec.Struct, frozen=True):
    error: str = ""
    message: str = ""
    detail: str = ""
    expected: int | None = None
    found: int | None = None


class DocumentClient(OperatorClient):
    """`with DocumentClient(server, place) as client: client.call("GET", "theme")`."""

    def __init__(self, server: AskedServer, place: Place) -> None:
        super().__init__(server)
        self._place = place

    def call(
        self,
        method: Method,
        name: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] = NOTHING,
    ) -> ReceivedAnswer:
        """The answer below 400. Raises `NoAnswer`: 1 absent, 2 invalid, 5 not allowed, 7 no answer, 10 conflict."""
        where = {"app": self._place.app, "namespace": self._place.namespace}
        path = f"{ROUTE}/{quote(name, safe='')}" if name else ROUTE
        headers = {"X-Cfgsync-Environment": self._place.environment, **headers}
        return self._checked(
            name, self._send(method, f"{path}?{urlencode(where)}", ANSWER_WITHIN, body, headers)
        )

    def call_scope(
        self, method: Method, name: str, what: str = "", body: bytes = b"", absent: str = ""
    ) -> ReceivedAnswer:
        """The same for what the second surface does with a document, or with `what` of it: its `history`, a `rollback`, its `schema`. `absent` is
        what to do about a 404."""
        place = self._place
        words = (place.app, "envs", place.environment, "namespaces", place.namespace, "documents", name, what)
        path = "/".join(quote(word, safe="") for word in words if word)
        return self._checked(name, self._send(method, f"{ADMIN}/{path}", ANSWER_WITHIN, body), absent)

    def scope(self, tag: str = "", hold: int = 0) -> tuple[str, ScopeDocuments]:
        """Every document of the app's environment, in one state, and its tag. With the `tag` of the last one the server holds
        the request up to `hold` seconds, and the documents are None while it is the newest."""
        place = self._place
        path = "/".join(quote(word, safe="") for word in (place.app, "envs", place.environment, "snapshot"))
        headers = {"If-None-Match": tag, "Prefer": f"wait={hold}"} if tag else {}
        answer = self._checked("", self._send("GET", f"{APPS}/{path}", ANSWER_WITHIN, more=headers))
        if answer.status == 304:
            return tag, ScopeDocuments(None)
        return answer.headers.get("etag", ""), self.decoded("", answer, ScopeDocuments)

    def commit(self, writes: Sequence[ScopeWrite]) -> int:
        """Write all of them in one revision, or none; the revision. Raises `NoAnswer`, 10 when one was changed meanwhile."""
        place = self._place
        path = "/".join(quote(word, safe="") for word in (place.app, "envs", place.environment, "commit"))
        body = msgspec.json.encode({"writes": writes})
        answer = self._send("POST", f"{ADMIN}/{path}", ANSWER_WITHIN, body)
        if answer.status == 404 and b"expectedVersion" in answer.body:  # deleted meanwhile
            answer = msgspec.structs.replace(answer, status=409)
        return self.decoded("", self._checked("", answer), ScopeRevision).version

    def find(self, name: str) -> ScopeDocument | None:
        """A document, also one that is no object; None when it is absent."""
        documents = self.scope()[1].documents or ()
        return next((one for one in documents if one.key == f"{self._place.namespace}/{name}"), None)

    def _checked(self, name: str, answer: ReceivedAnswer, absent: str = "") -> ReceivedAnswer:
        if answer.status >= 400:
            raise self._refused(name, answer, absent)
        return answer

    def _refused(self, name: str, answer: ReceivedAnswer, absent: str) -> NoAnswer:
        try:
            said = msgspec.json.decode(answer.body, type=_Error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = _Error()
        why = plain(said.error or said.detail or said.message, 2_000) or f"status {answer.status}"
        if answer.status == 409 and said.detail:
            return NoAnswer(
                CONFLICT,
                f"nothing was written: {why}",
                "another writer was first: read again, and decide again",
            )
        if answer.status == 404 and said.error:
            return NoAnswer(
                1, f"there is no {self._place.named(name)}", "cfgsync config list shows the documents"
            )
        if answer.status == 404 and said.detail:
            return NoAnswer(
                1, why, absent or f"cfgsync config history {plain(name, 200)} shows its revisions"
            )
        if answer.status == 404:
            return NoAnswer(
                7, f"{self.at} serves no documents: {why}", "serve them: cfgsync serve --documents"
            )
        if said.expected is not None:
            return another_revision(self._place.named(name), said.expected, said.found or 0, name)
        code = _CODES.get(answer.status, 7)
        hint = {
            2: "correct that, and run it again",
            5: self._refused_hint,
            CONFLICT: "cfgsync config set replaces it",
        }
        return NoAnswer(
            code,
            f"{self.at} refuses: {why}",
            AGAIN.get(answer.status) or hint.get(code, AGAIN[503]),
            code == 7,
        )


def another_revision(named: str, expected: int, found: int, name: str) -> NoAnswer:
    """That a document was not at the revision that was expected; 0: absent."""
    want, have = (f"revision {one}" if one else "no document" for one in (expected, found))
    return NoAnswer(
        CONFLICT,
        f"{named} was not written: expected {want}, found {have}",
        f"read it again (cfgsync config get {plain(name, 200)}), and decide again",
    )


def content_of(file: str) -> bytes:
    """What is in a file, or on standard input. Raises `InputError`."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {cause(error)}", "give a JSON file, or - for standard input") from error


def precondition(revision: int | None) -> dict[str, str]:
    """The headers of a write at this revision only; 0: only if the document is absent."""
    if revision is None:
        return {}
    return {"If-Match": str(revision)} if revision else {"If-None-Match": "*"}
