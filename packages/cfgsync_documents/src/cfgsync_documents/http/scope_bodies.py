"""The bodies of surface two, and what a written one must hold: each `contentJson` becomes canonical JSON as it is decoded."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, TypeVar

import msgspec

from cfgsync_core import InvalidRequest
from cfgsync_core.wire import RequestBody

from ..document import NAME_SCHEMA, WORD_SCHEMA, canonical

POSITIVE: Final = (
    "expectedVersion must be greater than 0 when provided; use CreateDocument for create-if-absent semantics"
)

Word = Annotated[str, msgspec.Meta(extra_json_schema=WORD_SCHEMA)]
Key = Annotated[str, msgspec.Meta(extra_json_schema=NAME_SCHEMA)]
Content = Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})]
"""Described in `/openapi.json`, and checked where the message can name the word."""

T = TypeVar("T", bound=msgspec.Struct)


class Problem(msgspec.Struct, frozen=True):
    """An error; programs look at `code`."""

    title: str
    status: int
    detail: str
    code: str

    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["title", "status", "detail", "code"],
        "properties": {
            **{name: {"type": "string"} for name in ("title", "detail", "code")},
            "status": {"type": "integer"},
        },
    }


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class OneDocument(msgspec.Struct, frozen=True, rename="camel"):
    """A document; its version is its own revision."""

    namespace: str
    config_key: str
    content_json: str
    version: int


class Snapshot(msgspec.Struct, frozen=True):
    """The documents of a scope at its version."""

    version: int
    documents: tuple[OneDocument, ...]


class ScopeDocuments(msgspec.Struct, frozen=True):
    """Documents in the order of namespace and key."""

    documents: tuple[OneDocument, ...]


class ScopeVersion(msgspec.Struct, frozen=True):
    """The scope's version after a write."""

    version: int


class Deleted(msgspec.Struct, frozen=True):
    """Whether there was a document to delete, and the scope's version."""

    deleted: bool
    version: int


class Created(msgspec.Struct, frozen=True, rename="camel"):
    """The name of a document that was created."""

    namespace: str
    config_key: str


class CreatedKeys(msgspec.Struct, frozen=True, rename="camel"):
    """What SyncDefaults created, and the scope's version."""

    version: int
    created_keys: tuple[Created, ...]


class PastVersion(msgspec.Struct, frozen=True, rename="camel"):
    """A value that a document had; `contentJson` is null where it was deleted."""

    version: int
    content_json: str | None
    updated_at: str
    updated_by: str


class HistoryList(msgspec.Struct, frozen=True):
    """The values of a document, newest first."""

    entries: tuple[PastVersion, ...]


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Default(msgspec.Struct, frozen=True, rename="camel"):
    """A document for SyncDefaults, which overwrites none: an `expectedVersion` is refused."""

    namespace: Word
    config_key: Key
    default_content_json: Content
    expected_version: None = None

    @property
    def content(self) -> bytes:
        return self.default_content_json.encode()


class Defaults(msgspec.Struct, frozen=True):
    """The defaults of a program."""

    defaults: tuple[Default, ...]


class NewDocument(msgspec.Struct, frozen=True, rename="camel"):
    """A document to create; an `expectedVersion` can only be 0, which says the same."""

    namespace: Word
    config_key: Key
    content_json: Content
    expected_version: Annotated[int, msgspec.Meta(extra_json_schema={"enum": [0]})] | None = None

    @property
    def content(self) -> bytes:
        return self.content_json.encode()


class PutDocument(msgspec.Struct, frozen=True, rename="camel"):
    """A document's new value; with `expectedVersion` only if it has this version."""

    content_json: Content
    expected_version: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})] | None = None

    @property
    def content(self) -> bytes:
        return self.content_json.encode()


class Write(msgspec.Struct, frozen=True, rename="camel"):
    """One of several writes; null deletes, and an `expectedVersion` of 0 creates only."""

    namespace: Word
    config_key: Key
    content_json: Content | None
    expected_version: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})] | None = None

    @property
    def content(self) -> bytes | None:
        return None if self.content_json is None else self.content_json.encode()


class Writes(msgspec.Struct, frozen=True):
    """Writes that happen together."""

    writes: tuple[Write, ...]


class Rollback(msgspec.Struct, frozen=True, rename="camel"):
    """The version whose value is written again; with `expectedVersion` only if the document has this version now."""

    to_version: int
    expected_version: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})] | None = None


class AnySchema(msgspec.Struct, frozen=True):
    """A JSON Schema (2020-12), an object whose references begin with `#`."""


def decode_as(kind: RequestBody[T], body: bytes) -> T:
    """The body, with canonical contents. Raises `InvalidRequest`."""
    decoded = kind.decode(body)
    match decoded:
        case PutDocument(expected_version=expected) if expected is not None and expected < 1:
            raise InvalidRequest(400, POSITIVE)
        case NewDocument(expected_version=expected) if expected:
            raise InvalidRequest(400, "expectedVersion must be 0 for a new document; PUT replaces one")
        case Defaults(defaults=defaults):
            return msgspec.structs.replace(decoded, defaults=tuple(map(_tidied, defaults)))
        case Writes(writes=writes):
            return msgspec.structs.replace(decoded, writes=tuple(map(_tidied, writes)))
    return _tidied(decoded)


def expected_version(text: str) -> int:
    """The version in a query. Raises `InvalidRequest`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise InvalidRequest(400, POSITIVE)
    return int(text)


def _tidied(body: T) -> T:
    """The same body, each of whose contents is canonical."""
    changes: dict[str, str] = {}
    for field, name in (("content_json", "contentJson"), ("default_content_json", "defaultContentJson")):
        text = getattr(body, field, None)
        if isinstance(text, str):
            changes[field] = canonical(text.encode(), name).decode()
    return msgspec.structs.replace(body, **changes)
