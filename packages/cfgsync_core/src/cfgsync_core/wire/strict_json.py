"""Bytes become JSON values by one strict rule: UTF-8 only, finite numbers, bounded depth, one canonical spelling.

Metadata keeps Python's value and spelling, with keys sorted.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

import msgspec


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number out of range: {text[:40]}")
    return value


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_PYTHONS = re.compile(rb"[0-9][.eE]|[0-9]{18}|-0|\\")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_decode = msgspec.json.Decoder().decode
_sorted = msgspec.json.Encoder(order="sorted").encode
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)


def loads(text: str) -> object:
    """The JSON value in `text`. Raises `ValueError` for anything but one whole, finite, Unicode JSON document."""
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def canonical(value: object) -> str:
    """Compact JSON with object keys sorted and non-ASCII kept.

    Raises `ValueError` for what JSON cannot say (NaN, lone surrogates, nesting without end, keys that are not text).
    """
    try:
        text = _encoder.encode(value)
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("text with a lone surrogate is not Unicode") from error
    except TypeError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return text


def canonical_of(data: bytes) -> str:
    """`canonical(loads(data))` for UTF-8 bytes. Raises `ValueError` as the two do.

    Python reads and spells a fraction, an exponent, a very long number, a minus zero and an escape; for all else msgspec
    gives the same text in a tenth of the time, and every registration passes here.
    """
    if _PYTHONS.search(data) is None:
        try:
            return _sorted(_decode(data)).decode()
        except (msgspec.DecodeError, RecursionError):
            pass  # Python names the fault
    return canonical(loads(data.decode()))


def depth(text: str | bytes) -> int:
    """The nesting of arrays and objects in JSON text: `1` is 0, `{}` is 1, `[{}]` is 2."""
    raw = text.encode() if isinstance(text, str) else text
    deepest = level = 0
    for byte in _STRING.sub(b"", raw):
        if byte in b"{[":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"}]":
            level -= 1
    return deepest


def top_level_pairs(text: str) -> list[tuple[str, object]] | None:
    """The pairs of the outermost object in order, doubles included; None when the document is not an object."""
    last: list[list[tuple[str, object]]] = []

    def keep(pairs: list[tuple[str, object]]) -> dict[str, object]:
        last[:] = [pairs]
        return dict(pairs)

    value = json.JSONDecoder(
        object_pairs_hook=keep, parse_constant=_refuse_constant, parse_float=_finite
    ).decode(text)
    return last[0] if isinstance(value, dict) else None
