"""Stores are opened by URL. Each engine is a file or a folder here, or another distribution's."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .engines import open_backend as open_backend
    from .engines import scheme_of as scheme_of

__getattr__, __dir__, __all__ = door(__name__, __file__)
