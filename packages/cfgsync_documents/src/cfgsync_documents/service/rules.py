"""What a write must hold before it is committed: the schemas of its documents, the server's validator, and what cfgsync reads.

The schema of a document is a document of the same scope, `cfgsync/schema.{namespace}.{name}`. A commit expects the schemas that
were looked at to be there still, so that no write slips in between, on any server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from cfgsync_core import Unavailable

from ..document import DocumentName
from ..errors import InvalidDocument, Problem
from ..kinds import KINDS, RESERVED, read_kinds
from .scope_mirror import ScopeMirror

_SCHEMA: Final = "schema."


class Question(msgspec.Struct, frozen=True):
    """What to check. `schemas` are themselves new, by the key of their document; `values` are (key, schema, value). `before`
    and `after` are for the validator: what a commit replaces and writes, None for an absent document."""

    scope: str
    schemas: dict[str, bytes]
    values: list[tuple[str, bytes, bytes]]
    before: dict[str, bytes | None] = {}
    after: dict[str, bytes | None] = {}


class Checker(Protocol):
    """Judges documents outside the event loop: a schema or a validator may take long, or never end."""

    @property
    def has_validator(self) -> bool:
        """Whether every write is to be checked."""

    async def check(self, question: Question) -> list[Problem]:
        """The problems, none when everything holds. Raises `Unavailable` when there is no answer in time."""


def schema_name(name: DocumentName) -> DocumentName:
    """The document that is the schema of `name`."""
    return DocumentName(name.scope, RESERVED, f"{_SCHEMA}{name.namespace}.{name.name}")


class Rules:
    """Without a `checker` a document that has a schema cannot be written."""

    def __init__(self, checker: Checker | None = None) -> None:
        self._checker = checker

    def asks(self, mirror: ScopeMirror, name: DocumentName) -> bool:
        """Whether `check` may wait for the checker when only `name` is written."""
        validates = self._checker is not None and self._checker.has_validator
        return validates or name.namespace == RESERVED or mirror.get(schema_name(name)) is not None

    async def check(
        self, mirror: ScopeMirror, writes: Mapping[DocumentName, bytes | None]
    ) -> dict[DocumentName, int]:
        """The revisions that the commit must expect, beside those of its caller. Raises `InvalidDocument`, `Unavailable`."""
        found: dict[DocumentName, int] = {}

        def held(name: DocumentName) -> bytes | None:
            if name in writes:
                return writes[name]
            document = mirror.get(name)
            found[name] = 0 if document is None else document.revision
            return None if document is None else document.data

        schemas: dict[str, bytes] = {}
        values: dict[str, tuple[str, bytes, bytes]] = {}
        for name, data in writes.items():
            governed = _governed_by(name)
            if governed is None:
                governed, schema = name, held(schema_name(name))
            else:
                schema = data
                if schema is not None:
                    schemas[name.key] = schema
            if schema is not None and (value := held(governed)) is not None:
                values[governed.key] = (governed.key, schema, value)
            if name.key == KINDS and data is not None:
                _check_kinds(data)
        question = Question(str(mirror.scope), schemas, list(values.values()))
        if self._checker is not None and self._checker.has_validator:
            question = self._with_values(question, mirror, writes, found)
        if question.schemas or question.values or question.after:
            await self._ask(question)
        return found

    def _with_values(
        self,
        question: Question,
        mirror: ScopeMirror,
        writes: Mapping[DocumentName, bytes | None],
        found: dict[DocumentName, int],
    ) -> Question:
        """What the validator sees; the commit must replace just that."""
        before: dict[str, bytes | None] = {}
        for name in writes:
            if name.namespace != RESERVED:
                document = mirror.get(name)
                before[name.key] = None if document is None else document.data
                found[name] = 0 if document is None else document.revision
        after = {name.key: data for name, data in writes.items() if name.key in before}
        return msgspec.structs.replace(question, before=before, after=after)

    async def _ask(self, question: Question) -> None:
        if self._checker is None:
            raise Unavailable("this server cannot check documents against a schema")
        if problems := await self._checker.check(question):
            raise InvalidDocument(problems)


def _governed_by(name: DocumentName) -> DocumentName | None:
    """The document whose schema this one is."""
    if name.namespace != RESERVED or not name.name.startswith(_SCHEMA):
        return None
    namespace, _, governed = name.name.removeprefix(_SCHEMA).partition(".")
    return DocumentName(name.scope, namespace, governed)


def _check_kinds(data: bytes) -> None:
    try:
        read_kinds(data)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at ")
        path = place.strip("`").removeprefix("$").replace("[...]", "/*").replace(".", "/")
        raise InvalidDocument([Problem(KINDS, path, words)]) from error
