"""SQLite's errors, translated once: what the caller can do next decides which error it gets."""

from __future__ import annotations

import errno
import sqlite3

from cfgsync_core import CfgsyncError, StoreDamaged, StoreFull, StoreRefused, Unavailable

RESTORE = (
    "stop the server, keep the files, restore a backup that `cfgsync store check` calls whole, and give it a new epoch"
    " before it serves: cfgsync store new-epoch --store sqlite:FILE"
)

DAMAGE = (TypeError, UnicodeDecodeError)
"""What Python raises when a damaged column has another type, or when an error message of SQLite quotes damaged bytes."""


def damaged(path: str, what: str) -> StoreDamaged:
    return StoreDamaged(f"{path} is damaged: {what}", RESTORE)


def in_use(error: sqlite3.Error, path: str) -> CfgsyncError:
    """The error that a call on an open store raises for `error`."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no space left for {path}; nothing was written")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"{path} is locked by another program; nothing was written")
    return Unavailable(f"{path}: {error}")


def at_open(error: sqlite3.Error | OSError, path: str) -> CfgsyncError:
    """The error that opening raises for `error`."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreRefused(f"no space left for {path}", "make space on its disk")
        return StoreRefused(
            f"cannot open {path}: {error.strerror or error}", "check the path and its permissions"
        )
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return StoreRefused(f"no space left for {path}", "make space on its disk")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreRefused(f"{path} is locked by another program", "end the program that writes to it")
    return StoreRefused(f"cannot open {path}: {error}", "check the path and its permissions")
