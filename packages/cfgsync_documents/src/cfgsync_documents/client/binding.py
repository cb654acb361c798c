"""One definition's typed value: it changes with its document, keeps the last good value, and calls back in order. A watch
does the same for a document without a type."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, Generic, TypeVar

import msgspec

from cfgsync_core.log_events import event
from cfgsync_core.text import plain
from cfgsync_core.wire import decode_json

from ..document import DocumentName
from .definition import ConfigDefinition, ConfigNotReady, ConfigUpdate

T = TypeVar("T")

log = logging.getLogger("cfgsync.documents")


class Binding(Generic[T]):
    """`name` is for the log."""

    def __init__(self, definition: ConfigDefinition[T], name: str) -> None:
        self.definition = definition
        self.name = name
        self.callbacks: list[Callable[[T], object]] = []
        self.error = ""
        """What is wrong with the newest document, `""` when it was taken."""
        self.good: str | None = None
        """The JSON that the value was read from, None for the default."""
        self._value: T | None = None
        self.is_ready = False

    @property
    def value(self) -> T:
        """Raises `ConfigNotReady`."""
        if not self.is_ready:
            raise ConfigNotReady(f"{self.name} has no value yet{f': {self.error}' if self.error else ''}")
        return self._value  # type: ignore[return-value]  # it is set

    def apply(self, content: str | None) -> None:
        """Take the document's JSON, None for a document that was deleted: then the default is the value."""
        if content is None:
            if self.good is not None:
                log.warning(
                    "%s was deleted: its default is used",
                    self.name,
                    extra=event("document_deleted", document=self.name),
                )
            self._take(self.definition.default, None)
            return
        if self.is_ready and content == self.good:
            self.error = ""
            return
        try:
            value = decode_json(content, self.definition.type, "a document")
        except (msgspec.MsgspecError, TypeError) as error:
            self.error = plain(str(error))
            kept = "the value before it is kept" if self.is_ready else "there is no value before it"
            log.warning(
                "%s is not a valid %s, and %s: %s",
                self.name,
                self.definition.type.__name__,
                kept,
                self.error,
                extra=event("document_invalid", document=self.name),
            )
            return
        self._take(value, content)

    def _take(self, value: T, content: str | None) -> None:
        before: Any = self._value if self.is_ready else self.definition.default
        self._value, self.good, self.error, self.is_ready = value, content, "", True
        if value == before:
            return
        for callback in tuple(self.callbacks):
            _call(callback, value, self.name)


class ConfigWatch:
    """A document without a type, whose values `on_update` gets. Made by `ConfigManager.watch`."""

    def __init__(
        self,
        name: DocumentName,
        on_update: Callable[[ConfigUpdate], object],
        ended: Callable[[ConfigWatch], Awaitable[object]],
    ) -> None:
        self.name = name
        self.key = name.key
        self._on_update = on_update
        self._ended = ended
        self._last: str | None = ""

    async def stop(self) -> None:
        """No update comes after this. A second call does nothing."""
        await self._ended(self)

    def apply(self, json: str | None, revision: int = 0) -> None:
        """Take the newest JSON of the document, None when it is absent."""
        if json == self._last:
            return
        self._last = json
        data = None if json is None else msgspec.json.decode(json)
        update = ConfigUpdate(self.name.name, data, revision, json is None)
        _call(self._on_update, update, f"{self.key} of {self.name.scope}")


def check_callback(callback: Callable[..., object]) -> None:
    """Raises `TypeError` for an `async` function: nothing would await it."""
    if iscoroutinefunction(callback) or iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        raise TypeError(
            f"{callback!r} is an async function, and a callback is a plain one: let it start a task, or put the value in a queue"
        )


def _call(callback: Callable[[T], object], value: T, name: str) -> None:
    try:
        callback(value)
    except Exception:  # the others are called all the same
        log.exception("%s: a callback failed", name)
