"""The page: `GET /` shows the fleet to a person, and only reads."""

from .answering import Page, page_routes

__all__ = ["Page", "page_routes"]
