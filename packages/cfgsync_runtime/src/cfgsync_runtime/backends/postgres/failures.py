"""What the driver raises, in the words of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from cfgsync_core import StoreDamaged, StoreFull, StoreRefused, Unavailable
from cfgsync_core.text import cause

FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""Everything that a session may fail with. `TimeoutError` is the driver's deadline, or ours."""

LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
    ConnectionError,
)
"""The session is gone, and another one may work at once."""

_REFUSED: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,  # and a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Raises `StoreFull` or `Unavailable` for what the driver raises inside: no commit was sent there."""
    try:
        yield
    except asyncpg.DiskFullError as error:
        raise StoreFull(f"PostgreSQL at {shown}: its disk is full") from error
    except FAILURES as error:
        raise unavailable(shown, error) from error


@contextmanager
def opening(shown: str) -> Iterator[None]:
    """`translated`, for the first session: what will not heal by itself is `StoreRefused`."""
    try:
        yield
    except asyncpg.ProtocolViolationError as error:
        raise refused_pooler(shown) from error
    except _REFUSED as error:
        raise StoreRefused(
            f"PostgreSQL at {shown} refuses this server: {_why(error)}",
            "check user, password, database and its rights (the user must be able to create a schema once)",
        ) from error
    except asyncpg.UndefinedObjectError as error:
        raise StoreRefused(
            f"PostgreSQL at {shown} does not know a parameter of its URL: {_why(error)}",
            "correct --store; several stores in one database are told apart by ?schema=NAME",
        ) from error
    except asyncpg.TooManyConnectionsError as error:
        raise StoreRefused(
            f"PostgreSQL at {shown} has no session left: {_why(error)}",
            "raise its max_connections: a server takes at most six",
        ) from error
    except FAILURES as error:
        raise StoreRefused(
            f"PostgreSQL at {shown} does not answer: {_why(error)}", "start it, or correct --store"
        ) from error


def refused_pooler(shown: str) -> StoreRefused:
    return StoreRefused(
        f"what answers at {shown} does not take the settings of a session, as a connection pooler does not",
        "give the address of PostgreSQL itself: this server keeps few connections",
    )


def unavailable(shown: str, error: BaseException) -> Unavailable:
    return Unavailable(f"PostgreSQL at {shown}: {_why(error)}")


def _why(error: BaseException) -> str:
    """Without the details that PostgreSQL adds in more lines; a deadline of the driver, or ours, has no words."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return cause(error).partition("\n")[0]


def damaged(shown: str, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"the store in PostgreSQL at {shown} is damaged: {what}",
        "restore a backup, then run cfgsync store new-epoch",
    )
