"""A package lists its public names once, under `if TYPE_CHECKING`, and loads each when it is first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable


def door(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `(__getattr__, __dir__, __all__)` for `package`, whose `__init__` is `file`.

    The list that type checkers read is the list that is loaded from: each line `    from MODULE import NAME as NAME` of
    `file` gives one name (the formatter keeps one name a line). ADR 0019.
    """
    with open(file, encoding="utf-8") as source:
        lines = [line.split() for line in source if line.startswith("    from ")]
    home = {words[-1]: words[1] for words in lines}

    def load(name: str) -> object:
        try:
            module = home[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        value: object = getattr(importlib.import_module(module, package), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(home)
    return load, lambda: names, names
