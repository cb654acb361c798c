"""Hints, events and a readable copy of documents over NATS, beside any store (`pip install cfgsync-runtime[nats]`)."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .bus import open_nats as open_nats
    from .projection import projecting as projecting

__getattr__, __dir__, __all__ = door(__name__, __file__)
