"""One URL names one engine, and only the engine that is named is loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from cfgsync_core import Engine, StoreRefused

Opener = Callable[[str, bool, "Callable[[BaseException], None] | None"], Engine]

ENGINES = {
    "memory": "memory:open_memory",
    "sqlite": "sqlite:open_url",
}
"""URL scheme → module and function in this package; the function takes what stands behind the colon."""


def open_store(
    url: str, *, read_only: bool = False, on_fatal: Callable[[BaseException], None] | None = None
) -> Engine:
    """The store at `url`, opened by `async with`: `memory:`, `sqlite:PATH`.

    `read_only` looks beside a running server. `on_fatal` is called once, in the event loop, when the engine can no
    longer say what is durable: end the process then, and start anew. Raises `StoreRefused`.
    """
    module, _, function = ENGINES[scheme_of(url)].partition(":")
    opener: Opener = getattr(import_module(f"{__name__}.{module}"), function)
    return opener(url.partition(":")[2], read_only, on_fatal)


def scheme_of(url: str) -> str:
    """The scheme of a URL that names an engine; nothing is opened. Raises `StoreRefused`."""
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in ENGINES:
        # the URL may hold a password: only its scheme is repeated
        named = f"scheme {scheme[:40]!r}" if colon else "a URL without scheme"
        raise StoreRefused(
            f"no engine for {named}", "give a store as " + " or ".join(f"{s}:…" for s in ENGINES)
        )
    return scheme
