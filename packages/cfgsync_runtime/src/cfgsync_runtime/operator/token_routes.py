"""The routes of tokens: make one, list them, revoke one. A token's text is in the answer that made it, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from cfgsync_core.server import Body, Call, Operation, Reply, Response, Route, refusal
from cfgsync_core.wire import RequestBody

from ..access.tokens.credentials import Token, TokenRole
from ..access.tokens.tokens import NewToken, Tokens, ends

if TYPE_CHECKING:
    from ..access.tls import ServerCertificate


class ListedToken(msgspec.Struct, frozen=True, rename={"covers": "for"}):
    """A token without its text. `uses` of `granted` names are left; `expired`: it is refused."""

    id: str
    role: TokenRole
    name: str
    covers: str
    uses: int
    granted: int
    expires: str
    expired: bool
    reclaim: bool
    scopes: tuple[str, ...]


class MadeToken(ListedToken, frozen=True, kw_only=True, rename={"covers": "for"}):
    """A new token; its text is shown this once. `scheme` is this server's; `ca_hash` verifies an https one
    (`--ca-hash`), whose certificate is for `names`. `listens` are the URLs of the addresses that this server listens on."""

    token: str
    scheme: Literal["http", "https"] = "http"
    ca_hash: str = ""
    names: tuple[str, ...] = ()
    listens: tuple[str, ...] = ()


class TokenList(msgspec.Struct, frozen=True):
    """Every token, the one that ends first at the front."""

    tokens: tuple[ListedToken, ...]


class Revoke(msgspec.Struct, frozen=True):
    """The token with this id, or those with this name."""

    which: str


class Revoked(msgspec.Struct, frozen=True):
    """The ids of the tokens that were revoked."""

    ids: tuple[str, ...]


_CREATE: Final = Operation(
    "Make a token; its text is shown this once",
    {"200": Response((MadeToken,))},
    "400 403 413 415 422 503 507",
    NewToken,
)
_LIST: Final = Operation("The tokens, without their text", {"200": Response((TokenList,))}, "400 403 503")
_REVOKE: Final = Operation(
    "Revoke a token: this server refuses it at once, others within one interval",
    {"200": Response((Revoked,))},
    "400 403 404 413 415 422 503 507",
    Revoke,
)


def token_routes(tokens: Tokens, tls: ServerCertificate | None = None) -> list[Route]:
    """The routes of one server, over TLS with this certificate."""

    async def create(call: Call) -> Reply:
        text, id, token = await tokens.create(call.value)
        made = MadeToken(
            **_facts(tokens, id, token),
            token=text,
            scheme="http" if tls is None else "https",
            ca_hash="" if tls is None else tls.ca_hash,
            names=() if tls is None else tls.names,
            listens=call.listens,
        )
        return Reply(200, (msgspec.json.encode(made),), _NO_STORE)

    async def listed(call: Call) -> Reply:
        found = tuple(ListedToken(**_facts(tokens, id, token)) for id, token in await tokens.all())
        return Reply(200, (msgspec.json.encode(TokenList(found)),))

    async def revoke(call: Call) -> Reply:
        ids = await tokens.revoke(call.value.which)
        if not ids:
            why = f"there is no token {call.value.which[:80]}"
            return refusal(404, "not_found", why, hint="cfgsync token list shows the tokens")
        return Reply(200, (msgspec.json.encode(Revoked(tuple(ids))),))

    new, old = Body(RequestBody(NewToken).decode), Body(RequestBody(Revoke).decode)
    return [
        Route("GET", "/admin/tokens", listed, "tokens", "operator", operation=_LIST),
        Route("POST", "/admin/token/create", create, "tokens", "operator", new, _CREATE),
        Route("POST", "/admin/token/revoke", revoke, "tokens", "operator", old, _REVOKE),
    ]


def _facts(tokens: Tokens, id: str, token: Token) -> dict[str, Any]:
    return {
        "id": id,
        "role": token.role,
        "name": token.name,
        "covers": token.covers,
        "uses": token.uses,
        "granted": token.granted,
        "expires": ends(token),
        "expired": tokens.is_over(token.expires),
        "reclaim": token.reclaim,
        "scopes": token.scopes,
    }


_NO_STORE: Final = {"Cache-Control": "no-store"}
