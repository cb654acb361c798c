"""One definition's typed value: it changes with its document, keeps the last good value, and calls back in order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from cfgsync_core.log_events import event
from cfgsync_core.text import plain
from cfgsync_core.wire import decode_json

from .definition import ConfigDefinition, ConfigNotReady

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
            try:
                callback(value)
            except Exception:  # the others are called all the same
                log.exception("%s: a callback failed", self.name)
