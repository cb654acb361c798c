"""A URL's scheme names an engine, or a bus of hints and events, found by its entry point; only what is named is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any, Final

from cfgsync_core import Backend, OpenEngine, StoreRefused
from cfgsync_core.store import Bus

GROUP: Final = "cfgsync.engines"
"""The entry point group: the name is the URL scheme, the value an `OpenEngine`."""
BUSES: Final = "cfgsync.hints"
"""The same for `--hints`: the value is called with the URL and `stream=`, and gives a `Bus` as its context."""


def open_backend(
    url: str,
    *,
    read_only: bool = False,
    on_fatal: Callable[[BaseException], None] | None = None,
    accept_loss: bool = False,
) -> AbstractAsyncContextManager[Backend]:
    """The store at `url`: `async with open_backend("sqlite:fleet.db") as backend`.

    `read_only` reads beside a running server. The engine calls `on_fatal` once, in the event loop, when it can no longer
    say what is durable: end the process then, and start again. With `accept_loss` a store opens whose newest commits are
    lost, with what is left; a new epoch must follow. Raises `StoreRefused`.
    """
    opener: OpenEngine = _loaded(_engine(url))
    if accept_loss:
        return opener(url, read_only=read_only, on_fatal=on_fatal, accept_loss=True)
    return opener(url, read_only=read_only, on_fatal=on_fatal)


def open_bus(url: str, stream: str | None = None) -> AbstractAsyncContextManager[Bus]:
    """The bus of hints and events at `url`, with the events in the stream of that name. Raises `StoreRefused`."""
    opened: AbstractAsyncContextManager[Bus] = _loaded(_engine(url, BUSES))(url, stream=stream)
    return opened


def without_password(url: str) -> str:
    """The URL for a message: without user and password."""
    return re.sub(r"//[^/@,]*@", "//", url)


def scheme_of(url: str) -> str:
    """The scheme of a URL that names an engine; nothing is loaded or opened. Raises `StoreRefused`."""
    return _engine(url).name


def _loaded(found: EntryPoint) -> Any:
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        raise StoreRefused(
            f"the engine for scheme {found.name!r} cannot be loaded: {error}",
            f"install {found.dist.name if found.dist else found.value} again, with what it needs",
        ) from error


def _engine(url: str, group: str = GROUP) -> EntryPoint:
    scheme, colon, _ = url.partition(":")
    if colon and (ours := _engine_of_ours(scheme, group)) is not None:
        return ours
    engines = {engine.name: engine for engine in entry_points(group=group)}
    if not colon or scheme not in engines:
        # the URL may hold a password, so the message repeats only its scheme
        named = f"scheme {scheme[:40]!r}" if colon else "a URL without scheme"
        known = " or ".join(f"{name}:…" for name in sorted(engines))
        raise StoreRefused(
            f"no engine for {named}",
            f"give {'a store' if group == GROUP else '--hints'} as {known}"
            if known
            else "install cfgsync-runtime again: it has lost its engines",
        )
    return engines[scheme]


def _engine_of_ours(scheme: str, group: str) -> EntryPoint | None:
    """Looked for first: to read the entry points of everything that is installed takes a twentieth of a server's start."""
    try:
        ours = distribution("cfgsync-runtime").entry_points
    except PackageNotFoundError:
        return None
    return next(iter(ours.select(group=group, name=scheme)), None)
