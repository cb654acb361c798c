"""A value in a YAML file knows its line, so that a refusal can name it.

Scalars stay text, as written: the reader of a value decides whether `4400` or `no` is a number or a name, and no
identifier becomes a boolean or a date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import msgspec

from cfgsync_core.server import spell_path

from ..errors import InputError

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Text(msgspec.Struct, frozen=True):
    """A scalar. `plain` is True when it was written without quotes; `tag` is what it is said to be (`!!int`), "" for text
    or when nothing is said."""

    line: int
    column: int
    text: str
    plain: bool
    tag: str = ""


class Items(msgspec.Struct):
    """A list."""

    line: int
    column: int
    items: list[Value]


class Table(msgspec.Struct):
    """A mapping; each key with the place where it was written."""

    line: int
    column: int
    entries: dict[str, tuple[Text, Value]]


Value: TypeAlias = Text | Items | Table
_KIND: Final[dict[type, str]] = {Items: "a list", Table: "a mapping"}


class Place(msgspec.Struct, frozen=True):
    """A value in a file, with the way that leads to it: `nodes[0].files[1].path`.

    A method that reads it as another type returns that, or raises an `InputError` with file, line, column and way.
    """

    file: Path
    value: Value
    at: tuple[str | int, ...] = ()

    def refuse(self, why: str, hint: str) -> NoReturn:
        """Raise the `InputError` of this place."""
        raise InputError(f"{self.where}: {why}", hint)

    @property
    def where(self) -> str:
        """`file:line:column: way`, counted from 1."""
        mark = f"{self.file}:{self.value.line}:{self.value.column}"
        return f"{mark}: {spell_path(self.at)}" if self.at else mark

    @property
    def found(self) -> str:
        """The value, for a message."""
        if isinstance(self.value, Text):
            tag = f"{self.value.tag} " if self.value.tag else ""
            return "nothing" if self.is_nothing else f"{tag}{self.value.text[:60]!r}"
        return _KIND[type(self.value)]

    @property
    def is_nothing(self) -> bool:
        """True for an empty value, `~` and `null`."""
        value = self.value
        return isinstance(value, Text) and value.text in _NOTHING and (value.tag == "!!null" or value.plain)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, Items)

    @property
    def is_binary(self) -> bool:
        """True for a scalar with the tag `!!binary`; its text is base64."""
        return isinstance(self.value, Text) and self.value.tag == "!!binary"

    def text(self, hint: str, tag: str = "") -> str:
        """The text as written; a number or `yes` without quotes is text too, as in the original. A value with another tag
        than `tag` is refused: it says that it is no text."""
        if not isinstance(self.value, Text) or self.is_nothing or self.value.tag not in ("", tag):
            self.refuse(f"expected text, found {self.found}", hint)
        return self.value.text

    def number(self, hint: str) -> int:
        """The whole number, in decimal digits."""
        text = self.text(hint, "!!int")
        if not re.fullmatch(r"[0-9]{1,18}", text):
            self.refuse(f"expected a whole number, found {self.found}", hint)
        return int(text)

    def texts(self, hint: str) -> list[str]:
        """The texts of a list that is not empty, or one text."""
        several = [one.text(hint) for one in self.items(hint)] if self.is_list else []
        return several or [self.text(hint)]

    def scalar(self, hint: str) -> str:
        """The text or whole number as written."""
        return self.text(hint, "!!int")

    def truth(self, hint: str) -> bool:
        """The boolean, written `true` or `false`."""
        text = self.text(hint, "!!bool")
        if text not in _TRUTH:
            self.refuse(f"expected true or false, found {self.found}", hint)
        return _TRUTH[text]

    def items(self, hint: str) -> Iterator[Place]:
        """The places in a list."""
        if not isinstance(self.value, Items):
            self.refuse(f"expected a list, found {self.found}", hint)
        return (Place(self.file, item, (*self.at, index)) for index, item in enumerate(self.value.items))

    def entries(self, hint: str) -> Mapping[str, Place]:
        """The places in a mapping, by key."""
        if not isinstance(self.value, Table):
            self.refuse(f"expected a mapping, found {self.found}", hint)
        return {
            key: Place(self.file, value, (*self.at, key)) for key, (_, value) in self.value.entries.items()
        }

    def key(self, key: str) -> Place:
        """The place where a key of this mapping is written. Raises `KeyError`."""
        entries = self.value.entries if isinstance(self.value, Table) else {}
        return Place(self.file, entries[key][0], (*self.at, key))

    def inside(self, step: str | int) -> Place | None:
        """The place one step further, or None."""
        found: Value | None = None
        if isinstance(self.value, Table) and step in self.value.entries:
            found = self.value.entries[str(step)][1]
        elif isinstance(self.value, Items) and isinstance(step, int) and step < len(self.value.items):
            found = self.value.items[step]
        return None if found is None else Place(self.file, found, (*self.at, step))
