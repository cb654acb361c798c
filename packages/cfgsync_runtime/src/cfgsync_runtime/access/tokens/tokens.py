"""The tokens of one store. A token is shown once, when it is made; the store keeps its hash, and what it permits."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from cfgsync_core import InvalidRequest
from cfgsync_core.follow import BucketMirror
from cfgsync_core.server import Call, Principal, Route
from cfgsync_core.text import rfc3339

from .credentials import SESSION, TOKEN, Credential, Session, Token, TokenRole, hash_of

LEEWAY: Final = 60
"""Seconds after its end for which a token is still accepted: the clocks of two servers differ."""
LONGEST: Final = 10 * 366 * 86_400
DAY: Final = 86_400
SESSION_SECONDS: Final = 3_600
SESSIONS: Final = 1_000
"""Sessions that are kept at most; the oldest ones end first."""

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_GLOB: Final = re.compile(r"[A-Za-z0-9._*?-]{1,128}")
_SCOPE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}/[A-Za-z0-9._-]{1,128}")
_TEXT: Final = re.compile(r"cfgsync_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_MAY: Final = {
    "reader": ("reader", "reader or writer"),
    "writer": ("writer", "reader or writer"),
    "operator": ("reader", "writer", "reader or writer", "operator"),
}
"""The kinds of routes that a role may call, besides the public ones."""


class NewToken(msgspec.Struct, frozen=True, rename={"covers": "for"}):
    """The token that is wanted. `covers` is the glob of the names that a join token binds; `ttl` is in seconds."""

    role: TokenRole = "join"
    name: str = ""
    covers: str = ""
    uses: int = 1
    ttl: float = DAY
    reclaim: bool = False
    scopes: tuple[str, ...] = ()


class Shown(msgspec.Struct, frozen=True):
    """A valid token that a caller has shown."""

    id: str
    token: Token

    def principal(self) -> Principal:
        """The caller; of a join token, anyone: it is spent on a registration and permits nothing else."""
        role = self.token.role
        return Principal("anyone" if role == "join" else role, self.token.name)

    def permits(self, route: Route, call: Call) -> bool:
        """Whether its bearer may make this call."""
        token = self.token
        if route.access not in _MAY.get(token.role, ()):
            return False
        return not token.scopes or (route.scope is not None and route.scope(call) in token.scopes)


class Tokens:
    """Makes, lists and revokes tokens in `held`, and knows the valid ones. `clock` gives seconds since 1970."""

    def __init__(self, held: BucketMirror[Credential], clock: Callable[[], float] = time.time) -> None:
        self._held = held
        self._clock = clock

    async def create(self, wanted: NewToken) -> tuple[str, str, Token]:
        """A new token: its text, which is kept nowhere, its id, and what is stored. Raises `InvalidRequest`."""
        _check(wanted)
        await self._held.catch_up()
        id = secrets.token_hex(6)
        text = f"cfgsync_{id}_{secrets.token_urlsafe(32)}"
        joins = wanted.role == "join"
        uses = wanted.uses if joins else 0
        token = Token(
            hash_of(text),
            wanted.role,
            wanted.name or id,
            int(self._clock() + wanted.ttl),
            wanted.covers,
            uses,
            uses,
            wanted.reclaim,
            wanted.scopes,
        )
        await self._held.commit({TOKEN + id: token, **self._over()})
        return text, id, token

    async def all(self) -> list[tuple[str, Token]]:
        """Every token that is stored, the one that ends first at the front."""
        await self._held.catch_up()
        return sorted(self._tokens(), key=lambda one: (one[1].expires, one[0]))

    async def revoke(self, which: str) -> list[str]:
        """Delete the token with this id, or those with this name; their ids. It is refused here from now on, and by other
        servers within one interval."""
        await self._held.catch_up()
        ids = [id for id, token in self._tokens() if which in (id, token.name)]
        if ids:
            gone = [
                key
                for key, one in self._held.entries.items()
                if isinstance(one, Session) and one.token in ids
            ]
            await self._held.commit(dict.fromkeys([*(TOKEN + id for id in ids), *gone]))
        return ids

    def shown(self, text: str) -> Shown | None:
        """The valid token with this text."""
        found = self.known(text)
        return None if found is None or self.is_over(found.token.expires) else found

    def known(self, text: str) -> Shown | None:
        """The token with this text, also after its end."""
        matched = _TEXT.fullmatch(text)
        token = None if matched is None else self._held.get(TOKEN + matched[1])
        if matched is None or not isinstance(token, Token):
            return None
        return Shown(matched[1], token) if hmac.compare_digest(hash_of(text), token.hash) else None

    def is_over(self, expires: int) -> bool:
        """Whether this time has passed, by this server's clock."""
        return self._clock() > expires + LEEWAY

    # ── sessions of the page ─────────────────────────────────────────────────────────────────────────────────────────

    async def log_in(self, text: str) -> tuple[str, Shown] | None:
        """A new session with a reader's or an operator's token: the text of its cookie, and the token. None for any other
        text, and for a token that has scopes: they are about documents."""
        found = self.shown(text.strip())
        if found is None or "reader" not in _MAY.get(found.token.role, ()) or found.token.scopes:
            return None
        cookie = secrets.token_urlsafe(32)
        expires = int(min(self._clock() + SESSION_SECONDS, found.token.expires))
        await self._held.commit({SESSION + hash_of(cookie): Session(found.id, expires), **self._over()})
        return cookie, found

    async def log_out(self, cookie: str) -> None:
        """End this session, on all servers."""
        await self._held.commit({SESSION + hash_of(cookie): None})

    def session(self, cookie: str) -> Principal | None:
        """The reader with this session, while its token is valid too."""
        session = self._held.get(SESSION + hash_of(cookie))
        if not isinstance(session, Session) or self._clock() > session.expires:
            return None
        token = self._held.get(TOKEN + session.token)
        if not isinstance(token, Token) or self.is_over(token.expires):
            return None
        return Principal("reader", token.name)

    def _tokens(self) -> list[tuple[str, Token]]:
        entries = self._held.entries.items()
        return [(key.removeprefix(TOKEN), one) for key, one in entries if isinstance(one, Token)]

    def _over(self) -> dict[str, None]:
        """The keys of sessions that have ended, and of tokens that did a day ago: until then a refusal says so."""
        now = self._clock()
        sessions = [(one.expires, key) for key, one in self._held.entries.items() if isinstance(one, Session)]
        ended = [key for expires, key in sessions if expires < now]
        oldest = [key for _, key in sorted(sessions, reverse=True)[SESSIONS - 1 :]]
        tokens = [TOKEN + id for id, token in self._tokens() if token.expires + DAY < now]
        return dict.fromkeys([*ended, *oldest, *tokens])


def ends(token: Token) -> str:
    """When a token ends, as text."""
    return rfc3339(token.expires)


def _check(wanted: NewToken) -> None:
    joins = wanted.role == "join"
    if not 0 < wanted.ttl <= LONGEST:
        raise InvalidRequest(422, "ttl: expected seconds, above 0 and at most ten years")
    if wanted.name and not _NAME.fullmatch(wanted.name):
        raise InvalidRequest(422, "name: expected 1 to 64 of A-Z a-z 0-9 . _ @ -")
    if joins and not _GLOB.fullmatch(wanted.covers):
        raise InvalidRequest(422, "for: expected the name of a node, or a pattern of names with * and ?")
    if joins and not 1 <= wanted.uses <= 1_000_000:
        raise InvalidRequest(422, "uses: expected 1 to 1000000")
    if not joins and (wanted.covers or wanted.reclaim or wanted.uses != 1):
        raise InvalidRequest(
            422, f"role: a token of role {wanted.role} has no names, uses and reclaim: those of nodes have"
        )
    if not joins and not wanted.name:
        raise InvalidRequest(422, "name: missing: the log shows it with each call")
    if (wanted.role == "writer") > bool(wanted.scopes):
        raise InvalidRequest(422, "scopes: a writer's token needs the app/env that it may write")
    if wanted.scopes and wanted.role not in ("writer", "reader"):
        raise InvalidRequest(422, f"scopes: a token of role {wanted.role} has none")
    if any(not _SCOPE.fullmatch(scope) for scope in wanted.scopes):
        raise InvalidRequest(422, "scopes: expected app/env")
