"""A change takes turns: who may change now, what a turn's end means, when it stops. Decided by functions of durable words."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .commands import halt_to_revert as halt_to_revert
    from .commands import pause as pause
    from .commands import promote as promote
    from .commands import resume as resume
    from .commands import retry as retry
    from .policy import is_share as is_share
    from .turns import NotThisGeneration as NotThisGeneration
    from .words import Words as Words

__getattr__, __dir__, __all__ = door(__name__, __file__)
