"""What `POST /node` answers, the requests that are held for it, and the reason in a sentence."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .explain import strangers as strangers

__getattr__, __dir__, __all__ = door(__name__, __file__)
