"""Strict decoding of a request's body into a Struct; the message of a refusal begins with the wrong field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from ..errors import InvalidRequest
from . import strict_json

T = TypeVar("T")

_FIELD = re.compile(r" - at `\$\.?(.*?)`$")


class RequestBody(Generic[T]):
    """Decodes the body of one route as this Struct; no key of it may come twice, and other keys are ignored."""

    __slots__ = ("_decode", "_known", "_quoted")

    def __init__(self, kind: type[T]) -> None:
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(kind).decode
        self._known = {field.encode_name for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        self._quoted = [b'"%b"' % key.encode() for key in self._known]

    def decode(self, body: bytes) -> T:
        """The Struct in `body`. Raises `InvalidRequest`: 400 for what is not JSON in UTF-8, 422 for wrong JSON."""
        try:
            if not body.isascii():
                body.decode()  # ignored keys must be UTF-8, too
            decoded = self._decode(body)
        except msgspec.ValidationError as error:
            raise InvalidRequest(422, _in_words(str(error))) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(400, f"not JSON: {error}") from error
        if b"\\" in body or max(map(body.count, self._quoted)) > 1:
            self._refuse_doubles(body)
        return decoded

    def _refuse_doubles(self, body: bytes) -> None:
        """Refuse a known top-level key that is given twice, as the original does; other keys may repeat."""
        try:
            pairs = strict_json.top_level_pairs(body.decode())
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(400, f"not JSON: {error}") from error
        seen: set[str] = set()
        for key, _ in pairs or ():
            if key in seen and key in self._known:
                raise InvalidRequest(422, f"{key}: given twice")
            seen.add(key)


def _in_words(message: str) -> str:
    """msgspec's message with the field in front: ``Expected `str`, got `int` - at `$.ip` `` → ``ip: expected …``."""
    found = _FIELD.search(message)
    text = _FIELD.sub("", message)
    text = text[:1].lower() + text[1:]
    if found and found[1]:
        return f"{found[1]}: {text}"
    if (named := re.search(r"field `(\w+)`", message)) is not None:
        return f"{named[1]}: missing"
    return f"body: {text}"
