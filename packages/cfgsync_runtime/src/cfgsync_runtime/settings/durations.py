"""A duration as a person writes it."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import Final

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """Seconds: `90`, `250ms`, `1h30m`. Raises `ValueError`."""
    words = text.strip()
    with suppress(ValueError):
        number = float(words)
        if math.isfinite(number) and number >= 0:
            return number
    parts = _PART.findall(words)
    if not parts or "".join(number + unit for number, unit in parts) != words:
        raise ValueError(f"{text[:40]!r} is not a duration: write 90, 250ms, 5m, 1h30m or 90d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
