"""Where a store is, by its URL: `postgresql://user@host/database?schema=NAME`, and how a session with it begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cfgsync_core import StoreRefused

CONNECT_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 10.0
"""No command takes longer, also when the database is frozen and its connections stay open."""

SESSION: Final[Mapping[str, str]] = {
    "synchronous_commit": "on",
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "10000",
}
"""Settings of each session (times in milliseconds). Without the last one a server that is frozen inside a transaction would
keep all others waiting."""

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")


class Address(NamedTuple):
    """`dsn` is what the driver takes, `shown` is for messages: no password, no user."""

    dsn: str
    schema: str
    shown: str


def read_address(url: str) -> Address:
    """Raises `StoreRefused`, whose words repeat no password."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        host = parts.netloc.rpartition("@")[2]
    except ValueError as error:
        raise StoreRefused(
            "the URL of the PostgreSQL database cannot be read", "write postgresql://USER@HOST/DATABASE"
        ) from error
    schema = dict(query).get("schema", "cfgsync")
    if not _SCHEMA.fullmatch(schema):
        raise StoreRefused(
            f"schema {schema[:60]!r} is not a name of small letters, digits and _",
            "write ?schema=NAME, or leave it out",
        )
    where = dict(query).get("host", "") or host or "the local socket"
    database = parts.path.removeprefix("/")
    rest = urlencode([(name, value) for name, value in query if name != "schema"])
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, rest, ""))
    return Address(dsn, schema, f"{where}/{database}" if database else where)
