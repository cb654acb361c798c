"""`sqlite:PATH`: one file, one server, one writer thread. A commit is acknowledged after its fsync."""

from __future__ import annotations

from collections.abc import Callable

from cfgsync_core import Engine, StoreRefused

from .engine import SqliteStore


def open_url(rest: str, read_only: bool, on_fatal: Callable[[BaseException], None] | None) -> Engine:
    """`sqlite:relative.db`, `sqlite:/absolute.db` or `sqlite:///absolute.db`."""
    path = rest[2:] if rest.startswith("//") else rest
    if not path or path.startswith(":") or "?" in path or "\0" in path:
        raise StoreRefused(
            f"sqlite:{rest[:80]} names no file", "write sqlite:PATH, for example sqlite:cfgsync.db"
        )
    return SqliteStore(path, read_only=read_only, on_fatal=on_fatal)


def open_sqlite(
    path: str, *, read_only: bool = False, on_fatal: Callable[[BaseException], None] | None = None
) -> SqliteStore:
    """The store in the file at `path`, opened by `async with`."""
    return SqliteStore(path, read_only=read_only, on_fatal=on_fatal)
