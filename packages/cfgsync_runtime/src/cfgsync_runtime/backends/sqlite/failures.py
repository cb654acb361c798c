"""SQLite's errors, translated once: what the caller can do next decides which error it gets."""

from __future__ import annotations

import errno
import os
import sqlite3

from cfgsync_core import CfgsyncError, StoreDamaged, StoreFull, StoreRefused, Unavailable

RESTORE = (
    "stop the server, keep the files, restore a backup that `cfgsync store check` calls whole, and give it a new epoch"
    " before it serves: cfgsync store new-epoch --store sqlite:FILE"
)

ACCEPT = (
    "keep a copy of the files; then restore a backup, or accept the loss:"
    " cfgsync store new-epoch --store sqlite:FILE, which says what is left"
)

NO_STORE = "give the path of a cfgsync store; if this was one, its first bytes are damaged: restore a backup"

DAMAGE = (TypeError, UnicodeDecodeError)
"""What Python raises when a damaged column has another type, or when an error message of SQLite quotes damaged bytes."""


def damaged(path: str, what: str) -> StoreDamaged:
    return StoreDamaged(f"{path} is damaged: {what}", RESTORE)


def busy(path: str, owner: str, *, links: bool = False) -> StoreRefused:
    """`links`: the other server may have the file under another name."""
    return StoreRefused(
        f"{path} is in use by another server (pid {owner}{', perhaps under another name of the file' if links else ''})",
        "stop that server, or give this one a store of its own",
    )


def lost(path: str, what: str) -> StoreDamaged:
    """The end of the log is missing: unlike other damage, what is left is a whole store of an earlier time."""
    return StoreDamaged(f"{path} is damaged: {what}; acknowledged commits are lost", ACCEPT)


def in_use(error: sqlite3.Error | OSError, path: str) -> CfgsyncError:
    """The error that a call on an open store raises for `error`."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{_full(path)} for {path}; nothing was written")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"{path} is locked by another program; nothing was written")
    return Unavailable(f"{path}: {error}")


def at_open(error: sqlite3.Error | OSError, path: str) -> CfgsyncError:
    """The error that opening raises for `error`."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _no_room(path)
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return StoreRefused(
                f"the file system of {path} gives no locks ({error.strerror})",
                "put the store on a local disk: without locks two servers could write to it",
            )
        return StoreRefused(
            f"cannot open {path}: {error.strerror or error}", "check the path and its permissions"
        )
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return StoreDamaged(f"{path} is not a cfgsync store (not an SQLite file)", NO_STORE)
    if code == sqlite3.SQLITE_CORRUPT:
        return damaged(path, str(error))
    # SQLite does not say why it could not create a file
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_CANTOPEN and _full(path) == NO_INODES):
        return _no_room(path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreRefused(f"{path} is locked by another program", "end the program that writes to it")
    return StoreRefused(f"cannot open {path}: {error}", "check the path and its permissions")


NO_INODES = "no inodes left"


def _full(path: str) -> str:
    """Which of the two a file system has run out of."""
    try:
        found = os.statvfs(os.path.dirname(os.path.abspath(path)))
    except OSError:
        return "no space left"
    # some file systems make inodes as they need them and report 0 of 0
    return NO_INODES if found.f_files and not found.f_favail else "no space left"


def _no_room(path: str) -> StoreRefused:
    what = _full(path)
    remedy = (
        "delete files that are not needed: their number is used up" if what == NO_INODES else "make space"
    )
    return StoreRefused(f"{what} for {path}", f"{remedy} on its disk")
