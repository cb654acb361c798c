"""A plain command line is read without typer, whose loading took half of a node's start.

Plain is `--flag VALUE`, `--flag=VALUE` and `-- COMMAND …`, in whole words and with values that can be used. Any other
line is left to typer, which also knows what to say about it. Both read the same list: the fields of a Struct that have
a `Flag`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ...settings.variables import blanks_of, refuse_unusable, variable_of

T = TypeVar("T", bound=msgspec.Struct)

SWITCHED: Final = {"1": True, "true": True, "0": False, "false": False}
"""The plain values of a switch's variable."""


class Flag(NamedTuple):
    """A flag of a command, as the annotation of a field: `Annotated[str, Flag("DIR", "Where it is.")]`."""

    metavar: str | None
    """None for a switch."""
    help: str
    name: str = ""
    """`""`: the field's name, with dashes."""
    least: int | None = None
    most: int | None = None


class Field(NamedTuple):
    """A field of a Struct that is a flag."""

    name: str
    annotation: Any
    kind: Callable[[str], Any]
    repeated: bool
    flag: Flag

    @property
    def option(self) -> str:
        return self.flag.name or f"--{self.name.replace('_', '-')}"

    def value(self, text: str) -> object:
        """Raises `ValueError` for a text that is not plain."""
        if self.kind is bool:
            return SWITCHED[text]
        if self.kind is str:
            refuse_unusable(self.option, text, blanks_of(self.flag.metavar))
        made: Any = self.kind(text)
        low, high = self.flag.least, self.flag.most
        if (low is not None and made < low) or (high is not None and made > high):
            raise ValueError(text)
        return made


def fields(arguments: type[msgspec.Struct]) -> Iterator[Field]:
    """The flags of a Struct, in order. Its module must not postpone the evaluation of annotations."""
    for name, annotation in arguments.__annotations__.items():
        flags = getattr(annotation, "__metadata__", ())
        if flags:
            kinds = getattr(annotation.__origin__, "__args__", (annotation.__origin__,))
            repeated = getattr(kinds[0], "__origin__", None) is list
            yield Field(name, annotation.__origin__, str if repeated else kinds[0], repeated, flags[0])


def read_plain(
    arguments: type[T],
    command: str,
    words: Sequence[str],
    say: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
) -> T | None:
    """The values of a line, which begins behind the name of the command; None: it is not plain. `say` gets a line about
    a variable that is ignored, or is called by a former name."""
    known = {field.option: field for field in fields(arguments)}
    at = words.index("--") if "--" in words else len(words)
    said: list[str] = []
    values: dict[str, Any] = {}
    try:
        given = texts_of({option: one.kind is bool for option, one in known.items()}, words[:at])
        for option, field in known.items():
            texts = given.get(option) or _of_variable(field, command, environment, said.append)
            if texts:
                made = [field.value(text) for text in (texts if field.repeated else texts[-1:])]
                values[field.name] = made if field.repeated else made[0]
        by_hand = frozenset(known[option].name for option in given)
        read = arguments(**values, start=list(words[at + 1 :]), by_hand=by_hand)
    except (KeyError, ValueError, TypeError):  # an unknown flag, an unusable value, a flag that is missing
        return None
    for line in said:
        say(line)
    return read


def texts_of(switches: Mapping[str, bool], words: Sequence[str]) -> dict[str, list[str]]:
    """The texts of each flag that is given; `switches` has every flag, and whether it takes no value. Raises `KeyError` or
    `ValueError` for words that are not plain."""
    given: dict[str, list[str]] = {}
    ahead = iter(words)
    for word in ahead:
        option, equals, text = word.partition("=")
        if switches[option]:
            text = "" if equals else "1"
        elif not equals:
            text = next(ahead, "")
        if not text or (text[0] == "-" and not equals):
            raise ValueError(word)
        given.setdefault(option, []).append(text)
    return given


def _of_variable(
    field: Field, command: str, environment: Mapping[str, str], say: Callable[[str], None]
) -> list[str]:
    """The texts of a flag's variable. Raises `InputError`."""
    variable = variable_of(command, field.option.removeprefix("--"))
    found = variable.read(environment, say, blanks="\n" if field.repeated else blanks_of(field.flag.metavar))
    if found is None:
        return []
    return [line for line in found[1].split("\n") if line] if field.repeated else [found[1]]
