"""The bucket of credentials: which secret a name belongs to, the tokens, and the sessions of the page; hashes only.

They share one bucket, so that one commit binds a name and spends a token.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec

from cfgsync_core import ChangeHints, RevisionedStore
from cfgsync_core.follow import BucketMirror, OtherServers

BUCKET: Final = "identities"
TOKEN: Final = "token/"
"""The prefix of a token's key, which no identifier can have."""
SESSION: Final = "session/"

TokenRole: TypeAlias = Literal["join", "reader", "writer", "operator"]


class Binding(msgspec.Struct, frozen=True):
    """A name belongs to the secret with this hash, and to the one that will replace it (`""`: none). `is_free`: its node has
    expired; it may come back, and another secret may take the name with a join token."""

    secret: str
    next: str = ""
    is_free: bool = False

    def has(self, hashed: str) -> bool:
        """Whether this is the hash of one of its secrets."""
        is_next = bool(self.next) and hmac.compare_digest(hashed, self.next)
        return hmac.compare_digest(hashed, self.secret) or is_next


class Token(msgspec.Struct, frozen=True, tag="token", omit_defaults=True):
    """What a token lets its bearer do, until `expires` (seconds since 1970).

    A `join` token binds `uses` more names of `granted` that the glob `covers`, one that is bound already only with
    `reclaim`. With `scopes` (`app/env`) any other one permits the calls in them only.
    """

    hash: str
    role: TokenRole
    name: str
    expires: int
    covers: str = ""
    granted: int = 0
    uses: int = 0
    reclaim: bool = False
    scopes: tuple[str, ...] = ()


class Session(msgspec.Struct, frozen=True, tag="session"):
    """A browser that has logged in with the token `token`, until `expires`."""

    token: str
    expires: int


Credential: TypeAlias = Binding | Token | Session


def credentials(
    store: RevisionedStore, hints: ChangeHints | None = None, interval: float = 15.0
) -> BucketMirror[Credential]:
    """The bucket of a store. With `hints`, other servers share the store, and the mirror follows them."""
    others = None if hints is None else OtherServers(hints, interval)
    return BucketMirror(store, BUCKET, _decode, _encode, others=others)


def hash_of(secret: str) -> str:
    """What is stored of a secret."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()  # a header may hold any bytes


def bearer_of(authorization: str | None) -> str | None:
    """The secret or the token in an `Authorization` header."""
    if not authorization:
        return None
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _encode(value: Credential) -> bytes:
    if not isinstance(value, Binding):
        return _json(value)
    # a binding that has only a secret is the text that servers wrote before there were tokens
    words = (value.secret, value.next or "-", "free" if value.is_free else "")
    return " ".join(words).rstrip(" -").encode()


def _decode(raw: bytes) -> Credential:
    if raw.startswith(b"{"):
        return _read(raw)
    secret, next, free = (*raw.decode().split(" "), "", "")[:3]
    return Binding(secret, next.removeprefix("-"), bool(free))


_json = msgspec.json.Encoder().encode
_read: Callable[[bytes], Credential] = msgspec.json.Decoder(Token | Session).decode
