"""`/login`: a browser shows a token once, and has a session for an hour. No script is needed, and the session only reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from cfgsync_core import InvalidRequest
from cfgsync_core.log_events import event
from cfgsync_core.server import Body, Call, Principal, Reply, Route, refusal

from ..access.admission import COOKIE, cookie_of
from ..access.tokens.tokens import SESSION_SECONDS, Tokens

if TYPE_CHECKING:
    from .login_form import LoginForm

MOST_BYTES: Final = 4_096

log = logging.getLogger("cfgsync")


def login_routes(tokens: Tokens, title: str) -> list[Route]:
    """`GET /login`, the form; `POST /login` and `POST /logout`, which a page of another origin cannot send."""
    loaded: list[type[LoginForm]] = []

    async def shown(reader: Principal | None, wrong: bool = False) -> Reply:
        if not loaded:
            loaded.append(await asyncio.to_thread(_load))
        return loaded[0](title, "" if reader is None else reader.name, wrong).reply()

    async def form(call: Call) -> Reply:
        return await shown(tokens.session(cookie_of(call)))

    async def log_in(call: Call) -> Reply:
        if not _own_origin(call.headers):
            _record(call, None)
            return refusal(403, "forbidden", "a page of another origin made this request (`Origin`)")
        made = await tokens.log_in(call.value)
        _record(call, None if made is None else made[1].token.name)
        if made is None:
            return await shown(None, wrong=True)
        secure = "; Secure" if call.secure else ""
        cookie = f"{COOKIE}={made[0]}; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict{secure}"
        return Reply(303, (), {"Location": "./", "Set-Cookie": cookie, "Cache-Control": "no-store"})

    async def log_out(call: Call) -> Reply:
        if not _own_origin(call.headers):
            return refusal(403, "forbidden", "a page of another origin made this request (`Origin`)")
        if cookie := cookie_of(call):
            await tokens.log_out(cookie)
        gone = f"{COOKIE}=; Max-Age=0; HttpOnly; SameSite=Strict"
        return Reply(303, (), {"Location": "login", "Set-Cookie": gone, "Cache-Control": "no-store"})

    body = Body(_token_in, MOST_BYTES, form=True)
    return [
        Route("GET", "/login", form, "login"),
        Route("POST", "/login", log_in, "login", body=body),
        Route("POST", "/logout", log_out, "logout", body=Body(bytes, MOST_BYTES, form=True)),
    ]


def _token_in(body: bytes) -> str:
    """The token in what the form sends. Raises `InvalidRequest`, whose message does not show it."""
    try:
        fields = dict(parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=8))
    except ValueError as error:
        raise InvalidRequest(400, "not what the form of the page sends") from error
    return fields.get("token", "")


def _own_origin(headers: Mapping[str, str]) -> bool:
    """False when a browser says that another site's page sends this; a program sends no `Origin`."""
    origin = headers.get("Origin")
    return origin is None or origin.lower().partition("://")[2] == headers.get("Host", "").lower() != ""


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
    from .login_form import LoginForm

    return LoginForm
