"""Keeping a view in step with its source: one loop, what may be accepted, when to look next."""
