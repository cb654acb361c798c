"""A package's door: its public names stand once in `__init__` and are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def door(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `(__getattr__, __dir__, __all__)` for `package`.

    `modules` maps a module of the package to the names that it hands on, separated by blanks; a key that ends with a
    colon is another package, whose door hands them on.
    """
    home = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> object:
        try:
            module = home[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        where = module[:-1] if module.endswith(":") else f"{package}.{module}"
        value: object = getattr(importlib.import_module(where), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(home)
    return load, lambda: names, names
