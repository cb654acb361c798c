"""Text for people: foreign text as one safe line, the cause of an error, a number with its noun, a time in UTC."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Final

LINE_CHARACTERS: Final = 600
_BASE64: Final = re.compile(r"[A-Za-z0-9+][A-Za-z0-9+/]{19,}={0,2}")


def plain(text: str, limit: int | None = LINE_CHARACTERS) -> str:
    """Foreign text as one line that cannot move a terminal's cursor, with at most `limit` characters (None: all)."""
    end = len(text) if limit is None else limit
    line = " ".join(text[: end + 1].split())
    line = escaped(line)
    shown = line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)
    return shown if len(text) <= end else shown[:end] + "…"


def both_ends(text: str, limit: int = LINE_CHARACTERS) -> str:
    """Foreign text as `plain` has it, without its middle if it is longer: of a program's last lines the end says why."""
    line = plain(text, None)
    start = limit // 3
    return line if len(line) <= limit else f"{line[:start]} … {line[start + 3 - limit :]}"


def escaped(text: str) -> str:
    """The text with each byte that is not UTF-8, as in the name of a file, as `\\xff`."""
    if text.isascii():
        return text
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text)


def as_unicode(text: str) -> str:
    """The text with `?` for what UTF-8 cannot say, as for JSON."""
    return text.encode("utf-8", "replace").decode()


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, without surrogates, which UTF-8 cannot encode."""
    text = as_unicode(text)
    return text if len(text) <= limit else text[:limit] + "…"


def error_text(error: BaseException) -> str:
    """The message of an exception, or its type when the message is empty or cannot be made."""
    try:
        text = str(error)
    except BaseException:  # an application's own `__str__`, which may even exit
        text = ""
    return text or type(error).__name__


def cause(error: BaseException) -> str:
    """Why a system call failed, with the system's message if there is one: `permission denied`."""
    return (getattr(error, "strerror", None) or error_text(error)).lower()


def path_shown(path: str) -> str:
    """The path of a file that is not there, for a message: but of what may be a secret that somebody gave in its place, the
    beginning only."""
    is_base64 = _BASE64.fullmatch(path) and any(map(str.isdigit, path)) and path.lower() != path
    is_word = "/" not in path and len(path) >= 16
    return f"{path[:8]}…" if path.startswith("cfgsync_") or is_word or is_base64 else path


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


@lru_cache(maxsize=4096)  # a page of /status has the same seconds many times
def rfc3339(seconds: int) -> str:
    """Whole seconds since 1970 as RFC 3339 in UTC: `2026-01-31T08:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
