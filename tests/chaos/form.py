"""Short in `make test`, long in `make chaos`."""

from __future__ import annotations

import os

LONG = os.environ.get("CFGSYNC_CHAOS") == "long"


def sized(short: int, long: int) -> int:
    """How many, by the form of this run."""
    return long if LONG else short
