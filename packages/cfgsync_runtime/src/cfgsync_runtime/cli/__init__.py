"""The command line: `main` reads a command's module only when that command runs."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .entry import main as main

__getattr__, __dir__, __all__ = door(__name__, __file__)
