"""The access rule of a composed server: nodes by their secret, readers by a token or the server's address, operators by its
socket or a token."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

from cfgsync_core.server import (
    ANYONE,
    NO_SOCKET,
    OPERATOR,
    READER,
    Call,
    LocalOperators,
    Principal,
    Reply,
    Route,
    is_own_name,
    refusal,
    why_not_here,
)

from .audit import record
from .identity import Identities
from .insecure import InsecureOption, is_loopback
from .lasting_calls import judged_again
from .tokens.credentials import bearer_of
from .tokens.tokens import Tokens

Readers: TypeAlias = Literal["loopback", "anyone", "tokens", "none"]
"""The callers that may read a `reader` route without a token: those on this machine, all, none; with `none` the page alone
is refused, as for a program that can have no tokens."""


_CLOSED: Final = "the page of this server is for readers with a token"
_FOREIGN: Final = "the page answers to this machine's own names and addresses only (`Host`): call it as http://127.0.0.1, with its port"
_HINT: Final = "on the server's machine: cfgsync token create --role reader --name NAME (operator: --role operator), then --token-file FILE"


def readers_of(
    host: str | Sequence[str], lacking: Sequence[InsecureOption], requires_tokens: bool = False
) -> Readers:
    """The readers of a server on `host`, or on several; `lacking` are the protections that its operator switched off."""
    if requires_tokens:
        return "tokens"
    if is_loopback(host):
        return "loopback"
    return "anyone" if "no-auth" in lacking else "none"


class Admission(LocalOperators):
    """With `identities` None, the routes of nodes check no secret, as for a static source; with `tokens` None, no token is
    valid.

    A server on loopback may open two things to the programs of its machine: to readers of the page the contents of files
    (`page_contents`), and to everyone the operator's routes with the names `over_tcp` and all documents (`open_documents`).
    A web page of `allowed_origins` reads documents as the server's own page does.
    Raises `ValueError` for another one.
    """

    def __init__(
        self,
        readers: Readers = "loopback",
        identities: Identities | None = None,
        page_contents: bool = False,
        over_tcp: Sequence[str] = (),
        *,
        tokens: Tokens | None = None,
        open_documents: bool = False,
        allowed_origins: Collection[str] = (),
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
        self._origins = allowed_origins
        self._tokens = tokens

    def before_body(self, route: Route, call: Call) -> Reply | None:
        if call.peer is None and route.access == "operator" and route.name in self._over_tcp:
            why = why_not_here(call.headers)
            if why is None:
                call.principal = OPERATOR
                return None
            return refusal(403, "forbidden", why)
        if call.peer is not None or (route.access == "operator" and "Origin" in call.headers):
            refused = super().before_body(route, call)
            return refused if refused is not None or call.principal is OPERATOR else self._judged(route, call)
        return self._judged(route, call)

    async def answer(self, route: Route, call: Call) -> Reply:
        if route.access == "node" and self._identities is not None:
            return await self._identities.answer(route, call)
        reply = await route.handler(call)
        lasts = "Prefer" in call.headers or reply.stream is not None or reply.converse is not None
        if route.scope is None or route.method != "GET" or not lasts:
            return reply
        return judged_again(reply, partial(self.before_body, route, call))

    def answered(self, route: Route, call: Call, reply: Reply | None) -> None:
        """Log an operator's call, and a write of documents that was refused or not heard to its end: one that is done has a
        line of its own, with its revisions."""
        if route.access == "operator" or (
            "writer" in route.access and (reply is None or reply.status in (401, 403))
        ):
            record(route, call, reply)

    def _judged(self, route: Route, call: Call) -> Reply | None:
        """The refusal of a call over TCP; else None, and the principal is set."""
        text = bearer_of(call.headers.get("Authorization"))
        shown = None if text is None or self._tokens is None else self._tokens.shown(text)
        opened = route.access == "reader" and route.scope is None and self._readers != "tokens"
        if shown is not None and (route.access == "public" or shown.permits(route, call)):
            call.principal = shown.principal()
            return None
        if route.access in ("public", "node"):
            return None
        if route.scope is not None and text is None and self._has_session(route, call):
            return None
        if route.scope is not None and self._open_documents:
            foreign = why_not_here(call.headers, self._origins if route.method == "GET" else ())
            return None if foreign is None else refusal(403, "forbidden", foreign)
        if opened or (route.access == "reader" and route.scope is None and text is None):
            return self._read(route, call)
        if shown is not None:
            call.principal = shown.principal()  # for the log
            token = shown.token
            scopes = f" for {', '.join(token.scopes)}" if token.scopes else ""
            asked = "" if route.scope is None else f" of {route.scope(call)}"
            needs = f"this needs a token of role {route.access}{asked}"
            why = f"the token {token.name} (role {token.role}{scopes}) does not permit this: {needs}"
            return refusal(403, "forbidden", why, hint=_HINT)
        if route.access == "operator":
            why = NO_SOCKET if text is None else f"the token is unknown, revoked or expired; {NO_SOCKET}"
            return refusal(403, "forbidden", why)
        why = (
            f"this needs a token of role {route.access}"
            if text is None
            else "the token is unknown, revoked or expired"
        )
        return refusal(401, "unauthorized", why, _BEARER, hint=_HINT)

    def _read(self, route: Route, call: Call) -> Reply | None:
        """The refusal of a reader that shows no token; else None, and the principal is set."""
        principal = self._session(call) if route.method == "GET" else ANYONE
        if principal is not ANYONE:
            call.principal = principal
            return None
        is_page = route.name == "page"
        if self._readers == "tokens":
            if is_page and "text/html" in call.headers.get("Accept", ""):
                there = f"{route.path}?{urlencode(call.query)}" if call.query else route.path
                wanted = "" if there == "/" else f"?next={quote(there, safe='')}"
                return Reply(303, (), {"Location": f"login{wanted}", "Cache-Control": "no-store"})
            return refusal(
                401, "unauthorized", "this needs a token of a reader or an operator", _BEARER, hint=_HINT
            )
        if not is_page:
            return None  # `/status` has no check of the Host: docs/howto/page.md
        if self._readers == "none":
            return refusal(403, "forbidden", _CLOSED)
        if self._readers == "loopback" and not is_own_name(call.headers.get("Host", "")):
            return refusal(403, "forbidden", _FOREIGN)
        if self._page_contents and why_not_here(call.headers) is None:
            call.principal = READER
        return None

    def _has_session(self, route: Route, call: Call) -> bool:
        """Whether a reader of the page may read these documents: a session is of a token for all of them. It sets the
        principal."""
        if route.method != "GET" or route.access != "reader":
            return False
        if not is_own_origin(call) and call.headers["Origin"] not in self._origins:
            return False
        found = self._session(call)
        if found is ANYONE:
            return False
        call.principal = found
        return True

    def _session(self, call: Call) -> Principal:
        cookie = cookie_of(call)
        found = self._tokens.session(cookie) if cookie and self._tokens is not None else None
        return found or ANYONE


def is_own_origin(call: Call) -> bool:
    """False when a browser says that another site's page sends this; a program sends no `Origin`. The scheme counts where it is
    known."""
    origin = call.headers.get("Origin")
    if origin is None:
        return True
    scheme, _, host = origin.lower().partition("://")
    return host == call.headers.get("Host", "").lower() != "" and call.scheme in ("", scheme)


def cookie_of(call: Call) -> str:
    """The text of the session's cookie, `""` without one."""
    cookies = call.headers.get("Cookie")
    if cookies is None:
        return ""
    wanted = cookie_name(call)
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value
    return ""


def cookie_name(call: Call) -> str:
    """The name of the session's cookie, with the port of the page: a browser sends the cookies of a host to all its ports."""
    port = call.headers.get("Host", "").rpartition(":")[2]
    return f"cfgsync-session-{port}" if port.isascii() and port.isdigit() else "cfgsync-session"


_BEARER: Final = {"WWW-Authenticate": "Bearer"}
