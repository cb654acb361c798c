"""Epochs are UUIDv7 as text: they compare in time order, and a clock that runs behind never makes an older one.

Layout after RFC 9562, section 5.7. Python has `uuid.uuid7` from 3.14 on only.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable
from typing import Final

LATEST_MS: Final = 1 << 47
"""The year 6429. Later epochs are invalid: the time has 48 bits, and each epoch needs room for a later one."""


def uuid7(milliseconds: int | None = None) -> str:
    """A UUIDv7 whose first 48 bits are `milliseconds` since 1970 (default: now). Raises `ValueError` for more than fit."""
    ms = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    if not 0 <= ms < 1 << 48:
        raise ValueError(f"{ms} milliseconds do not fit into a UUIDv7")
    value = ms << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def epoch_ms(epoch: str) -> int:
    """The milliseconds in an epoch. Raises `ValueError` for text that is not a UUIDv7, and for one past `LATEST_MS`."""
    parsed = uuid.UUID(epoch)
    if parsed.version != 7 or str(parsed) != epoch:
        raise ValueError(f"{epoch!r} is not a UUIDv7 in its usual spelling")
    milliseconds = parsed.int >> 80
    if milliseconds >= LATEST_MS:
        raise ValueError(f"{epoch} is too far in the future: no later epoch could follow it")
    return milliseconds


def mint_epoch(known: Iterable[str] = ()) -> str:
    """A new epoch, later than now and than every one in `known`."""
    now = time.time_ns() // 1_000_000
    return uuid7(max([now, *(epoch_ms(epoch) + 1 for epoch in known if epoch)]))
