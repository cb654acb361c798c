"""What each call of surface two does."""

from __future__ import annotations

import msgspec

from cfgsync_core import InvalidRequest
from cfgsync_core.server import Call, Reply, refusal

from ..document import Document, DocumentName, Scope, check_word
from ..errors import DocumentConflict, DocumentMissing
from ..kinds import KINDS, RESERVED, busted_name
from ..service.documents import Documents
from ..service.history import MAX_ENTRIES, History
from ..service.rules import schema_name
from .parts import is_known, newest, tagged, writer_of
from .scope_bodies import (
    Created,
    CreatedKeys,
    Deleted,
    HistoryList,
    OneDocument,
    PastVersion,
    ScopeDocuments,
    ScopeVersion,
    Snapshot,
    expected_version,
)


class ScopeHandlers:
    """One method for each route."""

    def __init__(self, documents: Documents, history: History) -> None:
        self._documents = documents
        self._history = history

    async def snapshot(self, call: Call) -> Reply:
        scope, namespace = _scope(call), call.names.get("ns")
        if namespace is not None:
            DocumentName.checked(scope, namespace, "any")

        version = await newest(
            self._documents,
            scope,
            call,
            lambda: self._documents.version(scope),
            lambda version: not is_known(call, version),
        )
        if is_known(call, version):
            return Reply(304, (), tagged(version))
        found = await self._documents.snapshot(scope, namespace)
        snapshot = Snapshot(found.version.revision, tuple(map(_shown, found.documents)))
        return Reply(200, (msgspec.json.encode(snapshot),), tagged(found.version))

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
            if name.namespace == RESERVED:  # a reader could set a schema that no writer fits
                raise InvalidRequest(
                    400, f"namespace must not be {RESERVED}: a default is never created there"
                )
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
        namespace = call.query.get("namespace") or None
        if namespace is not None:
            check_word("namespace", namespace)
        found = await self._documents.snapshot(_scope(call), namespace)
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
                if write.expected_version < 0:
                    raise InvalidRequest(400, "expectedVersion must be 0 or greater")
                expected[name] = write.expected_version
        return await self._write(call, writes, expected)

    async def history(self, call: Call) -> Reply:
        given = call.query.get("limit", str(MAX_ENTRIES))
        if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given)):
            raise InvalidRequest(400, "limit must be a number greater than 0")
        entries = await self._history.read(_name(call), min(int(given), MAX_ENTRIES))
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
        asked = call.value
        await self._history.rollback(_name(call), asked.to_version, writer_of(call), asked.expected_version)
        return _json(ScopeVersion((await self._documents.version(_scope(call))).revision))

    async def schema(self, call: Call) -> Reply:
        document = await self._documents.get(_schema_name(call))
        if document is None:
            raise DocumentMissing(_name(call), "has no schema")
        return Reply(200, (document.data,))

    async def set_schema(self, call: Call) -> Reply:
        if not call.value.startswith(b"{"):
            raise InvalidRequest(400, "a schema must be a JSON object")
        return await self._write(call, {_schema_name(call): call.value}, {})

    async def delete_schema(self, call: Call) -> Reply:
        name = _schema_name(call)
        done = await self._documents.commit(name.scope, {name: None}, writer_of(call))
        return _json(Deleted(bool(done.written), done.version.revision))

    async def bust(self, call: Call) -> Reply:
        """A commit makes it: every server sees it, and a program that asks later, too."""
        scope, kind = _scope(call), call.names["kind"]
        state = await self._documents.state(scope)
        if kind not in state.kinds:
            return refusal(404, "not_found", f"{scope} has no kind {kind[:100]!r} (document {KINDS})")
        after = {"after": state.version.revision}
        return await self._write(call, {busted_name(scope, kind): msgspec.json.encode(after)}, {})

    async def _write(
        self, call: Call, writes: dict[DocumentName, bytes | None], expected: dict[DocumentName, int]
    ) -> Reply:
        done = await self._documents.commit(_scope(call), writes, writer_of(call), expected)
        return _json(ScopeVersion(done.version.revision))


def _scope(call: Call) -> Scope:
    return Scope.checked(call.names["app"], call.names["env"])


def _name(call: Call) -> DocumentName:
    return DocumentName.checked(_scope(call), call.names["ns"], call.names["key"])


def _schema_name(call: Call) -> DocumentName:
    """Raises `InvalidRequest` for a name that leaves no room for that of its schema."""
    return DocumentName.checked(*schema_name(_name(call)))


def _shown(document: Document) -> OneDocument:
    return OneDocument(document.name.namespace, document.name.name, document.data.decode(), document.revision)


def _json(body: msgspec.Struct) -> Reply:
    return Reply(200, (msgspec.json.encode(body),))
