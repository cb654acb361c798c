"""The store in a PostgreSQL database, for one server or several (`pip install cfgsync-runtime[postgres]`)."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .engine import open_postgres as open_postgres

__getattr__, __dir__, __all__ = door(__name__, __file__)
