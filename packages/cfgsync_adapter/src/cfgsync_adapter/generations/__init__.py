"""Numbered, published sets of files: what is in one, when a new one is made, what a node can take."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .generation import PayloadTooLarge as PayloadTooLarge
    from .generation import Prepared as Prepared
    from .generation import checked as checked

__getattr__, __dir__, __all__ = door(__name__, __file__)
