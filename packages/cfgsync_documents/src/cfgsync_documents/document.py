"""A document is one canonical JSON value with a name and a revision: the keys stay in order, numbers keep their spelling.

Canonical means: strict JSON in UTF-8, no blanks between tokens, strings spelled in one way, no key twice, depth 64 at most.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn, TypeAlias

import msgspec

from cfgsync_core import InvalidRequest, Version
from cfgsync_core.text import plain, rfc3339
from cfgsync_core.wire import depth

MAX_DOCUMENT_BYTES: Final = 512 * 1024
MAX_SCOPE_BYTES: Final = 8 * 1024 * 1024
MAX_SCOPE_DOCUMENTS: Final = 10_000
MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 4_300
"""Of a whole number: Python's readers take no more."""
MAX_WORD: Final = 128
MAX_ENVIRONMENT: Final = 64
MAX_KNOWN: Final = 1_024
"""Names that need not be checked again."""

_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
_DOTTED: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_STRING_OR_BLANKS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[ \t\r\n]+')


WORD_SCHEMA: Final = {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{MAX_WORD}}}$"}
ENVIRONMENT_SCHEMA: Final = {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{MAX_ENVIRONMENT}}}$"}
NAME_SCHEMA: Final = {"type": "string", "pattern": f"^{_DOTTED.pattern}$", "maxLength": MAX_WORD}
QUERY_SCHEMA: Final = {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{0,{MAX_ENVIRONMENT}}}$"}
"""What `check_word` takes, as JSON Schemas; in a query an empty word is an absent one (some may be longer)."""


class Scope(NamedTuple):
    """An environment of an app: its documents are in one bucket and have one revision counter."""

    app: str
    environment: str

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"

    @classmethod
    @lru_cache(MAX_KNOWN)
    def checked(cls, app: str, environment: str) -> Scope:
        """Raises `InvalidRequest` (400), which names the word that is wrong."""
        check_word("app", app)
        check_word("env", environment, MAX_ENVIRONMENT)
        return cls(app, environment)


class DocumentName(NamedTuple):
    """The whole name of a document."""

    scope: Scope
    namespace: str
    name: str

    @classmethod
    @lru_cache(MAX_KNOWN)
    def checked(cls, scope: Scope, namespace: str, name: str, *, field: str = "configKey") -> DocumentName:
        """Raises `InvalidRequest` (400), which names the word that is wrong; `field` is what its surface calls `name`."""
        check_word("namespace", namespace)
        check_word(field, name, dotted=True)
        return cls(scope, namespace, name)

    @property
    def key(self) -> str:
        """The key in the scope's bucket."""
        return f"{self.namespace}/{self.name}"

    @property
    def described(self) -> str:
        """For a message."""
        app, environment = self.scope
        return f"app={app}, env={environment}, namespace={self.namespace}, configKey={self.name}"


class Writer(NamedTuple):
    """The name of a writer, which its documents keep, and the address, which only the log has."""

    name: str
    address: str = ""


By: TypeAlias = Writer | str
"""A writer, or only its name."""


class Document(msgspec.Struct, frozen=True):
    """One document as it was committed. `data` is its canonical JSON, `version` that of the commit which wrote it, `by` names
    its writer, `at_ms` is when (milliseconds since 1970, 0 when it is not known)."""

    name: DocumentName
    data: bytes
    version: Version
    at_ms: int
    by: str

    @property
    def revision(self) -> int:
        """The scope's revision that wrote this document."""
        return self.version.revision

    @property
    def is_object(self) -> bool:
        return self.data.startswith(b"{")

    @property
    def updated_at(self) -> str:
        """RFC 3339 with milliseconds."""
        return at(self.at_ms)


def at(at_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339: `2026-01-31T08:00:00.000Z`."""
    return f"{rfc3339(at_ms // 1000)[:-1]}.{at_ms % 1000:03d}Z"


def check_word(field: str, text: str, at_most: int = MAX_WORD, *, dotted: bool = False) -> None:
    """Raise `InvalidRequest` (400) for text that cannot be this part of a name."""
    if not text.strip():
        raise InvalidRequest(400, f"{field} must not be blank")
    if len(text) > at_most:
        raise InvalidRequest(400, f"{field} must have at most {at_most} characters")
    if (_DOTTED if dotted else _WORD).fullmatch(text) is None:
        raise InvalidRequest(400, f"{field} must match {(_DOTTED if dotted else _WORD).pattern}")


def canonical(body: bytes, what: str = "contentJson") -> bytes:
    """The canonical JSON in `body`. Raises `InvalidRequest`: 400 for what is not strict JSON, 413 for too much of it."""
    try:
        text = body.decode()
        if text.startswith("\ufeff"):
            raise ValueError("it begins with a byte order mark (BOM); save it as UTF-8 without one")
        if depth(body) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        _DECODER.decode(text)
        made = _STRING_OR_BLANKS.sub(_tidied, text).encode()
    except (ValueError, RecursionError) as error:  # a UnicodeError is a ValueError
        raise InvalidRequest(400, f"{what} must be valid JSON: {plain(str(error), 200)}") from error
    if len(made) > MAX_DOCUMENT_BYTES:
        raise InvalidRequest(
            413, f"a document has at most {MAX_DOCUMENT_BYTES} bytes, this one has {len(made)}"
        )
    return made


def _tidied(found: re.Match[str]) -> str:
    token = found[0]
    if token[0] != '"':
        return ""
    if "\\" not in token:
        return token
    made = json.dumps(json.loads(token), ensure_ascii=False)
    if _SURROGATE.search(made) is not None:
        raise ValueError(
            "a string has one half of a surrogate pair (\\ud800 to \\udfff), which is no character"
        )
    return made


def _once(pairs: list[tuple[str, object]]) -> None:
    """Nothing is kept: the text itself becomes the document."""
    if len({key for key, _ in pairs}) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:80]!r} is there twice")
        seen.add(key)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _short(text: str) -> None:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits, and may have {MAX_DIGITS}")


def _finite(text: str) -> None:
    if not math.isfinite(float(text)):
        raise ValueError(f"number out of range: {text[:40]}")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_short, parse_float=_finite
)
