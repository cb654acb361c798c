"""What a store's URL opens, as one value: the verbs, the engine's own side, and how others hear of a commit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .contract import RevisionedStore, StoreAdmin
from .hints import ChangeEvents, ChangeHints

if TYPE_CHECKING:
    from .moving import StoreMover


class Backend(NamedTuple):
    """An open store. A wrapper replaces `store`; `admin` is always the engine itself."""

    store: RevisionedStore
    admin: StoreAdmin
    hints: ChangeHints | None = None
    """How servers that share the store tell each other of commits. None: only one server writes to it."""
    events: ChangeEvents | None = None
    """Where commits are announced to observers outside. None: nowhere."""
    mover: StoreMover | None = None
    """How the store is fenced while it is moved. None: it cannot be."""


class OpenEngine(Protocol):
    """What an entry point of the group `cfgsync.engines` names: a function that opens the engine of one URL scheme."""

    def __call__(
        self,
        url: str,
        *,
        read_only: bool,
        on_fatal: Callable[[BaseException], None] | None,
        accept_loss: bool = False,
    ) -> AbstractAsyncContextManager[Backend]:
        """The backend at `url` (the whole URL), open while the context lasts.

        `read_only` reads beside a running server: it makes no file and takes no lock. The engine calls `on_fatal` once,
        in the event loop, when it can no longer say what is durable. `accept_loss` is given only after the engine has refused the
        store with `StoreDamaged`: it then opens what is left, for an operator who gives that a new epoch. Entering raises `StoreRefused` or `Unavailable`,
        whose message and hint repeat no password of the URL.
        """
