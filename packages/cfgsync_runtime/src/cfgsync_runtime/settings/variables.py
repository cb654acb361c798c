"""Environment variables: each belongs to one command, or means the same in all that read it (docs/reference/settings.md).

`fetch`, the entry point of containers, has the short names `CFGSYNC_<FLAG>`; every other command has
`CFGSYNC_<COMMAND>_<FLAG>`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from ..errors import InputError

PREFIX: Final = "CFGSYNC_"
SHARED: Final = frozenset({"server", "token-file", "ca-file", "ca-hash", "store", "admin-socket", "env"})
"""The flags that mean the same in every command."""
OF_FETCH: Final = frozenset({"watch", "json", "state", "keep"})
"""The flags of `fetch` whose short name could be another command's."""

_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")  # Kubernetes and Docker set NAME_PORT to that
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Variable(NamedTuple):
    """The variable of one flag. `old` is its former name, which still works in this release; `""` for none."""

    name: str
    old: str = ""

    def read(
        self,
        environment: Mapping[str, str] = os.environ,
        say: Callable[[str], None] = lambda _: None,
        *,
        blanks: str = "",
    ) -> tuple[str, str] | None:
        """The name that is set and its value; None when none is, or when the value is not meant for cfgsync.

        An empty variable is not set. The control characters `blanks` may be in the value. `say` gets a line about a value
        that is ignored, and about a former name. Raises `InputError`.
        """
        for name in (self.name, self.old):
            text = environment.get(name) if name else None
            if not text:
                continue
            if _LINK.fullmatch(text):
                say(f"{name} is ignored: {text[:80]} is a container platform's service link")
                continue
            refuse_unusable(name, text, blanks)
            if name != self.name:
                say(f"{name} is now called {self.name}; the old name works in this release only")
            return name, text
        return None


def variable_of(command: str, flag: str) -> Variable:
    """The variable of `flag` (without its dashes) in `command`, such as `generation list`."""
    name = _upper(flag)
    if flag == "env":
        return Variable(PREFIX + "ENVIRONMENT")
    if flag in SHARED and command != "demo":  # its store is one to fill, never the fleet's own
        return Variable(PREFIX + name)
    if command == "fetch":
        return (
            Variable(f"{PREFIX}FETCH_{name}", PREFIX + name) if flag in OF_FETCH else Variable(PREFIX + name)
        )
    return Variable(f"{PREFIX}{_upper(command)}_{name}", PREFIX + name if command == "serve" else "")


def blanks_of(metavar: str | None) -> str:
    """The control characters that may be in the value of a flag, by what its help calls the value."""
    return "\t\n\r" if metavar in ("JSON", "COMMAND") else ""


def refuse_unusable(name: str, text: str, blanks: str = "") -> None:
    """Refuse a value that no shell would have passed on: with a control character that is not in `blanks`, or in quotes.
    `name` is its flag or variable. Raises `InputError`, which does not show the value: it may be a secret."""
    for found in _CONTROL.finditer(text):
        if found[0] not in blanks:
            raise InputError(
                f"{name} has a control character in it ({found[0]!a}, character {found.start() + 1} of {len(text)})",
                "write it without: a file with Windows line ends adds \\r to each line",
            )
    quote = text[0] if len(text) > 1 and text[0] in "'\"" and text[0] == text[-1] else ""
    if quote and quote not in text[1:-1] and not (blanks and quote == '"'):
        raise InputError(
            f"{name} is in quotes ({quote}), which are part of its value: no shell took them off",
            "write it without the quotes",
        )


def _upper(words: str) -> str:
    return re.sub("[ -]", "_", words).upper()
