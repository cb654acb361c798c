"""Stores are opened by URL. Each engine is a file or a folder here, or another distribution's."""
