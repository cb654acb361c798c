"""`sqlite:PATH`: one file, one server, one writer thread. A commit is acknowledged after its fsync."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .engine import SqliteStore as SqliteStore
    from .engine import open_sqlite as open_sqlite

__getattr__, __dir__, __all__ = door(__name__, __file__)
