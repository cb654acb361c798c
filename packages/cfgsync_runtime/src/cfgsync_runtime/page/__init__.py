"""The page: `GET /` shows the fleet to a person, and only reads."""

from .answering import Page, door_of

__all__ = ["Page", "door_of"]
