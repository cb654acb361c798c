"""Documents as text for people: a value over several lines, a history, a difference; the numbers keep their spelling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import Final

import msgspec

from cfgsync_core.text import plain

VALUE_SHOWN: Final = 100


class Written(msgspec.Struct, frozen=True):
    """What a write answers."""

    name: str
    revision: int


class Deleted(msgspec.Struct, frozen=True):
    """What a deletion answers: whether there was a document."""

    deleted: bool


class Shown(msgspec.Struct, frozen=True, rename="camel"):
    """A document; in a list without its data."""

    name: str
    revision: int
    updated_at: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class Listed(msgspec.Struct, frozen=True):
    """The documents of an environment."""

    configs: tuple[Shown, ...]


class Past(msgspec.Struct, frozen=True, rename="camel"):
    """A value that a document had; None where it was deleted."""

    version: int
    content_json: str | None
    updated_at: str
    updated_by: str


class HistoryOf(msgspec.Struct, frozen=True):
    """The values of a document, newest first."""

    entries: tuple[Past, ...]


def pretty(data: bytes | msgspec.Raw) -> str:
    """The JSON over several lines, with a line end."""
    return msgspec.json.format(bytes(data), indent=2).decode() + "\n"


def history_lines(entries: Sequence[Past]) -> Iterator[str]:
    """A table of the values."""
    width = max(len("BY"), *(len(plain(one.updated_by, 40)) for one in entries))
    yield f"{'REVISION':>8}  {'WHEN':24}  {'BY':{width}}  VALUE"
    for one in entries:
        value = "(deleted)" if one.content_json is None else plain(one.content_json, VALUE_SHOWN)
        by = plain(one.updated_by, 40) or "-"
        yield f"{one.version:>8}  {plain(one.updated_at, 24):24}  {by:{width}}  {value}"


def difference(before: str, after: str, old: str, new: str) -> list[str]:
    """A unified diff, no lines for equal texts."""
    lines = unified_diff(before.splitlines(), after.splitlines(), plain(old), plain(new), lineterm="")
    return [plain(line, None) if not line.startswith((" ", "+", "-")) else line for line in lines]


def say(sentence: str, json: bool, **facts: object) -> None:
    """Print a result: one line, or its facts as one JSON object."""
    print(msgspec.json.encode(facts).decode() if json else sentence)


def say_written(written: Written, json: bool) -> None:
    """Print what was written."""
    said = f"{plain(written.name, 200)} revision {written.revision}"
    say(said, json, name=written.name, revision=written.revision)
