"""`cfgsync config`: its commands, those of several environments, and those of files."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .commands import app as app

__getattr__, __dir__, __all__ = door(__name__, __file__)
