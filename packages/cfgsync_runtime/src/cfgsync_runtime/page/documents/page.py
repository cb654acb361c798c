"""What a query of `/documents` selects: all scopes, the documents of one, or one document with its history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlencode

from cfgsync_core.server import Call, Reply, why_not_here
from cfgsync_documents import DocumentName, Scope
from cfgsync_documents.http import check_word
from cfgsync_documents.service import Documents, History

from ..assets import assets
from ..document import document
from ..markup import Markup
from .views import PAST, SCOPES, document_view, scope_view, scopes_view


class DocumentPage:
    """Answers `GET /documents`. `has_fleet`: there is the fleet's page, too."""

    def __init__(
        self,
        documents: Documents,
        history: History,
        title: str,
        *,
        are_open: bool,
        has_login: bool,
        has_fleet: bool,
    ) -> None:
        self._documents = documents
        self._history = history
        self._title = title
        self._are_open = are_open
        self._has_login = has_login
        self._has_fleet = has_fleet

    async def answer(self, call: Call) -> Reply:
        """HTML. Raises `InvalidRequest` for a name that no document can have, `Unavailable`."""
        query = {name: text for name, text in call.query.items() if text}
        for word in ("app", "namespace", "name"):
            check_word(word, query.get(word, "default"), dotted=word == "name")
        if "env" not in query:
            scopes = await self._documents.scopes()
            states = [(scope, await self._documents.state(scope)) for scope in scopes[:SCOPES]]
            return await self._shown("Documents", lambda: scopes_view(states, len(scopes)))
        scope = Scope.checked(query.get("app", "default"), query["env"])
        reads = self._may_read(call)
        stream = "v1/config/watch?" + urlencode({"app": scope.app, "env": scope.environment}) if reads else ""
        if "name" not in query:
            found = await self._documents.snapshot(scope)
            after = query.get("after", "")
            return await self._shown(str(scope), lambda: scope_view(scope, found, after), stream)
        namespace = query.get("namespace", "default")
        name = DocumentName.checked(scope, namespace, query["name"], field="name")
        one = await self._documents.get(name)
        past = await self._history.read(name, PAST + 1)
        status = 200 if one is not None or past else 404
        return await self._shown(
            name.name, lambda: document_view(name, one, past, reads=reads), stream, status
        )

    def _may_read(self, call: Call) -> bool:
        """Whether the caller may read every value: an operator, a reader with a token, on an open server anyone here."""
        principal = call.principal
        if principal.role == "operator" or (principal.role == "reader" and principal.name):
            return True
        return self._are_open and why_not_here(call.headers) is None

    async def _shown(
        self, view: str, sections: Callable[[], list[Markup]], stream: str = "", status: int = 200
    ) -> Reply:
        made = await asyncio.to_thread(
            lambda: document(
                view,
                sections(),
                title=self._title,
                stream=stream,
                has_login=self._has_login,
                has_fleet=self._has_fleet,
                has_documents=True,
            )
        )
        return Reply(status, (made,), assets().headers)
