"""`/login`: a browser shows a token once, and has a session for an hour. No script is needed, and the session only reads."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec

from cfgsync_core import InvalidRequest
from cfgsync_core.log_events import event
from cfgsync_core.server import Body, Call, Principal, Reply, Route, refusal

from ...access.admission import cookie_name, cookie_of, is_own_origin
from ...access.tokens.tokens import SESSION_SECONDS, Tokens

if TYPE_CHECKING:
    from .form import LoginForm

MOST_BYTES: Final = 4_096
_OWN: Final = re.compile(r"/(?:\w[\w.~-]*(?:/\w[\w.~-]*)*)?(?:\?[\w.~%=&+*-]*)?", re.ASCII)
"""A path of this server with its query; no segment begins with a dot or is empty, so that none leads to another place."""
_LONGEST: Final = 1_000

log = logging.getLogger("cfgsync")


class _Sent(msgspec.Struct, frozen=True):
    """What the form sends: a token, and the path that the browser wanted (`""`: none, or not one of this server)."""

    token: str
    next: str


def login_routes(tokens: Tokens, title: str) -> list[Route]:
    """`GET /login`, the form; `POST /login` and `POST /logout`, which a page of another origin cannot send."""
    loaded: list[type[LoginForm]] = []

    async def shown(reader: Principal | None, wanted: str, wrong: bool = False) -> Reply:
        if not loaded:
            loaded.append(await asyncio.to_thread(_load))
        return loaded[0](title, "" if reader is None else reader.name, wrong, wanted).reply()

    async def form(call: Call) -> Reply:
        return await shown(tokens.session(cookie_of(call)), _own_path(call.query.get("next", "")))

    async def log_in(call: Call) -> Reply:
        if not is_own_origin(call):
            _record(call, None)
            return refusal(403, "forbidden", "a page of another origin made this request (`Origin`)")
        sent: _Sent = call.value
        made = await tokens.log_in(sent.token)
        _record(call, None if made is None else made[1].token.name)
        if made is None:
            return await shown(None, sent.next, wrong=True)
        cookie = f"{cookie_name(call)}={made[0]}; Max-Age={SESSION_SECONDS}; {_kept_safe(call)}"
        there = f".{sent.next or '/'}"  # relative, so that it works behind a prefix
        return Reply(303, (), {"Location": there, "Set-Cookie": cookie, "Cache-Control": "no-store"})

    async def log_out(call: Call) -> Reply:
        if not is_own_origin(call):
            return refusal(403, "forbidden", "a page of another origin made this request (`Origin`)")
        if cookie := cookie_of(call):
            await tokens.log_out(cookie)
        gone = f"{cookie_name(call)}=; Max-Age=0; {_kept_safe(call)}"
        return Reply(303, (), {"Location": "login", "Set-Cookie": gone, "Cache-Control": "no-store"})

    body = Body(_sent, MOST_BYTES, form=True)
    return [
        Route("GET", "/login", form, "login"),
        Route("POST", "/login", log_in, "login", body=body),
        Route("POST", "/logout", log_out, "logout", body=Body(bytes, MOST_BYTES, form=True)),
    ]


def _kept_safe(call: Call) -> str:
    """What keeps the cookie from scripts, from other sites, and from plain HTTP. Where no proxy says how the browser came, it says
    so itself."""
    scheme = call.scheme or call.headers.get("Origin", "").lower().partition(":")[0]
    has_tls = scheme == "https"
    return f"HttpOnly; SameSite=Strict{'; Secure' if has_tls else ''}"


def _sent(body: bytes) -> _Sent:
    """What the form sends. Raises `InvalidRequest`, whose message does not show the token."""
    try:
        fields = dict(parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=8))
    except ValueError as error:
        raise InvalidRequest(400, "not what the form of the page sends") from error
    return _Sent(fields.get("token", ""), _own_path(fields.get("next", "")))


def _own_path(path: str) -> str:
    """The path, if it is one of this server and no other origin's; else `""`."""
    return path if len(path) <= _LONGEST and _OWN.fullmatch(path) else ""


def _record(call: Call, name: str | None) -> None:
    level, what = (logging.WARNING, "refused") if name is None else (logging.INFO, f"with the token {name}")
    log.log(
        level,
        "login of the page from %s: %s",
        call.caller_address,
        what,
        extra=event("login", address=call.caller_address, token=name),
    )


def _load() -> type[LoginForm]:
    from .form import LoginForm

    return LoginForm
