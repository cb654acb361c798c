"""The documents over HTTP: each surface is a list of routes."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from ..document import QUERY_SCHEMA as QUERY_SCHEMA
    from ..document import check_word as check_word
    from .by_name import name_routes as name_routes
    from .by_scope import scope_routes as scope_routes

__getattr__, __dir__, __all__ = door(__name__, __file__)
