"""The headers of requests and answers: how long to wait, which files the node has, which digest an answer has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

import msgspec

from ..errors import IntegrityError
from .limits import MAX_GROUP_NAME, MAX_KEEPALIVE, MAX_WAIT

ACCEPT_EXTENDED: Final = "base64, mode"

ACCEPT = "Cfgsync-Accept"
GENERATION = "Cfgsync-Generation"
JOIN_TOKEN = "Cfgsync-Join-Token"
KEEPALIVE = "Cfgsync-Keepalive"
NEXT = "Cfgsync-Next"
NEXT_SECRET = "Cfgsync-Next-Secret"
SIGNATURE = "Cfgsync-Signature"
TURN = "Cfgsync-Turn"
VERSION = "Cfgsync-Version"

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_ETAG = re.compile(r'"([^"]*)"')
_SHA256 = re.compile(r"sha256-[0-9a-f]{64}")
_GROUP = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_GROUP_NAME - 1}}}")
_TURN = re.compile(rf"({_GROUP.pattern}) *; *(steady|trial|refused)")

Mark: TypeAlias = Literal["steady", "trial", "refused"]
"""How a node that takes turns stands with its files: `steady` (its program is well on them), `trial` (changed, and not yet
healthy), `refused` (it went back from the files of its turn)."""


class Turn(msgspec.Struct, frozen=True):
    """A node takes turns in `group`. As text, the value of `Cfgsync-Turn`: `default; steady`."""

    group: str
    mark: Mark

    def __str__(self) -> str:
        return f"{self.group}; {self.mark}"


def parse_turn(text: str | None) -> Turn | None:
    """The turn in `Cfgsync-Turn: GROUP; steady|trial|refused`; None without the header and for any other text."""
    found = _TURN.fullmatch(text) if text else None
    return None if found is None else Turn(found[1], cast(Mark, found[2]))


def is_group(text: str) -> bool:
    """Whether this can name a group: a letter or digit, then letters, digits, `.`, `_` and `-`, `MAX_GROUP_NAME` at most."""
    return _GROUP.fullmatch(text) is not None


@lru_cache(maxsize=64)
def parse_wait(prefer: str) -> float:
    """The seconds of `Prefer: wait=20`, at most 30; 0 without one (RFC 7240)."""
    found = _WAIT.search(prefer)
    return min(float(found[1]), MAX_WAIT) if found else 0.0


def parse_keepalive(text: str | None) -> int | None:
    """The seconds of `Cfgsync-Keepalive: 60`, from 1 to 3600; None for any other text, and without the header."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > 4:
        return None
    seconds = int(text)
    return seconds if 1 <= seconds <= MAX_KEEPALIVE else None


def parse_etags(header: str) -> Sequence[str]:
    """The entity tags of `If-None-Match`, without quotes; `*` matches everything."""
    return ("*",) if header == "*" else _ETAG.findall(header)


def takes_extended(accept: str) -> bool:
    """True when `Cfgsync-Accept` names both modes and base64."""
    return accept == ACCEPT_EXTENDED or {"base64", "mode"} <= {word.strip() for word in accept.split(",")}


def parse_digest(etag: str | None) -> str | None:
    """The digest in an answer's `ETag`; None without a tag and for another kind of tag. Raises `IntegrityError` for an
    invalid digest."""
    if not etag or not etag.strip('W/"').startswith("sha256-"):
        return None
    digest = etag[1:-1] if etag.startswith('"') and etag.endswith('"') else etag
    if not _SHA256.fullmatch(digest):
        raise IntegrityError(f"the ETag {etag[:100]} is not a digest")
    return digest


def is_digest(text: str) -> bool:
    """Whether this is `sha256-` and 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None
