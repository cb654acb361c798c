"""Calling the materializer: one run at a time, where it runs, and what came of it."""
