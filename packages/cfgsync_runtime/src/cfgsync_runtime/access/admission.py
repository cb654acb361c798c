"""The access rule of a composed server: nodes by their secret, the page by the server's address, operators by its socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from cfgsync_core.server import (
    OPERATOR,
    READER,
    Call,
    LocalOperators,
    Reply,
    Route,
    is_own_name,
    refusal,
    why_no_operator,
    why_not_here,
)

from .identity import Identities
from .insecure import InsecureOption, is_loopback

Readers: TypeAlias = Literal["loopback", "anyone", "none"]
"""The callers that may read a `reader` route: those on this machine, all, none."""

_CLOSED: Final = "the page is served on loopback only until read tokens exist; --insecure-no-auth shows it to anyone who can reach the server"
_FOREIGN: Final = "the page answers to this machine's own names and addresses only (`Host`): call it as http://127.0.0.1, with its port"

_NO_DOCUMENTS: Final = "documents answer on the server's admin socket only: run `cfgsync config` on its machine, as its user or root; on loopback, serve --open-documents opens them to every program of the machine"


def readers_of(host: str | Sequence[str], lacking: Sequence[InsecureOption]) -> Readers:
    """The readers of a server on `host`, or on several; `lacking` are the protections that its operator switched off."""
    if is_loopback(host):
        return "loopback"
    return "anyone" if "no-auth" in lacking else "none"


class Admission(LocalOperators):
    """With `identities` None, the routes of nodes check no secret, as for a static source.

    A server on loopback may open two things to the programs of its machine: to readers of the page the contents of files
    (`page_contents`), and to everyone the operator's routes with the names `over_tcp` and all documents (`open_documents`).
    Raises `ValueError` for another one.
    """

    def __init__(
        self,
        readers: Readers = "loopback",
        identities: Identities | None = None,
        page_contents: bool = False,
        over_tcp: Sequence[str] = (),
        open_documents: bool = False,
    ) -> None:
        if readers != "loopback" and (page_contents or over_tcp or open_documents):
            raise ValueError(
                "contents on the page, replacements over TCP and open documents are for a server on loopback only"
            )
        self._readers = readers
        self._identities = identities
        self._page_contents = page_contents
        self._over_tcp = over_tcp
        self._open_documents = open_documents

    def before_body(self, route: Route, call: Call) -> Reply | None:
        if call.peer is None and route.access == "operator" and route.name in self._over_tcp:
            why = why_not_here(call.headers)
            if why is not None:
                return refusal(403, "forbidden", why)
            call.principal = OPERATOR
            return None
        if route.scope is not None:
            return self._document(route, call)
        return super().before_body(route, call)

    def _document(self, route: Route, call: Call) -> Reply | None:
        """The refusal of a call that reads or writes documents: they are for operators, or open to all on this machine."""
        if call.peer is not None:
            why = why_no_operator(call)
            if why is None:
                call.principal = OPERATOR
                return None
            return refusal(403, "forbidden", why)
        if self._open_documents:
            why = why_not_here(call.headers)
            return None if why is None else refusal(403, "forbidden", why)
        return refusal(401, "unauthorized", _NO_DOCUMENTS, {"WWW-Authenticate": "Bearer"})

    async def answer(self, route: Route, call: Call) -> Reply:
        if route.access == "node" and self._identities is not None:
            return await self._identities.answer(route, call)
        if route.access == "reader" and route.scope is None and call.principal != OPERATOR:
            if self._readers == "none":
                return refusal(403, "forbidden", _CLOSED)
            if self._readers == "loopback" and not is_own_name(call.headers.get("Host", "")):
                return refusal(403, "forbidden", _FOREIGN)
            if self._page_contents and why_not_here(call.headers) is None:
                call.principal = READER
        return await route.handler(call)
