"""A URL's scheme names an engine, found by its entry point; only the engine that is named is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Final

from cfgsync_core import Backend, OpenEngine, StoreRefused

GROUP: Final = "cfgsync.engines"
"""The entry point group: the name is the URL scheme, the value an `OpenEngine`."""


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
    found = _engine(url)
    try:
        opener: OpenEngine = found.load()
    except (ImportError, AttributeError) as error:
        raise StoreRefused(
            f"the engine for scheme {found.name!r} cannot be loaded: {error}",
            f"install {found.dist.name if found.dist else found.value} again, with what it needs",
        ) from error
    if accept_loss:
        return opener(url, read_only=read_only, on_fatal=on_fatal, accept_loss=True)
    return opener(url, read_only=read_only, on_fatal=on_fatal)


def without_password(url: str) -> str:
    """The URL for a message: without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def scheme_of(url: str) -> str:
    """The scheme of a URL that names an engine; nothing is loaded or opened. Raises `StoreRefused`."""
    return _engine(url).name


def _engine(url: str) -> EntryPoint:
    scheme, colon, _ = url.partition(":")
    if colon and (ours := _engine_of_ours(scheme)) is not None:
        return ours
    engines = {engine.name: engine for engine in entry_points(group=GROUP)}
    if not colon or scheme not in engines:
        # the URL may hold a password, so the message repeats only its scheme
        named = f"scheme {scheme[:40]!r}" if colon else "a URL without scheme"
        known = " or ".join(f"{name}:…" for name in sorted(engines))
        raise StoreRefused(
            f"no engine for {named}",
            f"give a store as {known}" if known else "install cfgsync-runtime again: it has lost its engines",
        )
    return engines[scheme]


def _engine_of_ours(scheme: str) -> EntryPoint | None:
    """Looked for first: to read the entry points of everything that is installed takes a twentieth of a server's start."""
    try:
        ours = distribution("cfgsync-runtime").entry_points
    except PackageNotFoundError:
        return None
    return next(iter(ours.select(group=GROUP, name=scheme)), None)
