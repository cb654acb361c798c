"""What is announced after a commit of documents, for observers outside: both forms, whichever surface wrote.

No part of cfgsync reads these events. A reader of them drops one with a lower revision of the same epoch. An event's `previous` is the
revision of the scope before it: where it is not the last one that a reader has seen, events were lost.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cfgsync_core import Change, Version

from ..document import Scope, at
from .scope_mirror import DELETER, decode_stored, scope_of

DEFAULT: Final = "default"
"""The app and the namespace whose documents are announced by name."""


def describe(bucket: str, version: Version, change: Change) -> list[tuple[str, bytes]]:
    """The events of a commit as subjects and bodies; none for a bucket that has no documents."""
    scope = scope_of(bucket)
    if scope is None:
        return []
    written = [(key.split("/", 1), value) for key, value in change.writes.items() if key != DELETER]
    events = [_changed(scope, version, change.at_ms, [names for names, _ in written])]
    for (namespace, name), value in written:
        if scope.app == namespace == DEFAULT:
            events.append(_updated(scope, name, version, change.at_ms, value))
    return events


def _changed(scope: Scope, version: Version, at_ms: int, names: list[list[str]]) -> tuple[str, bytes]:
    """That the scope has changed; it names the document when there is one."""
    body = {
        "app": scope.app,
        "env": scope.environment,
        "version": version.revision,
        "previous": version.revision - 1,
        "epoch": version.epoch,
        **(dict(zip(("namespace", "configKey"), names[0], strict=True)) if len(names) == 1 else {}),
        "timestamp": at(at_ms),
    }
    return f"config.{scope.app}.{scope.environment}.changed", msgspec.json.encode(body)


def _updated(scope: Scope, name: str, version: Version, at_ms: int, value: bytes | None) -> tuple[str, bytes]:
    """The value of one document; a deleted one is null."""
    body = {
        "name": name,
        "revision": version.revision,
        "previous": version.revision - 1,
        "epoch": version.epoch,
    }
    data = b"null" if value is None else decode_stored(value).data
    end = {"deleted": True} if value is None else {}
    tail = msgspec.json.encode({"updatedAt": at(at_ms), **end})[1:]
    subject = f"public.default.{scope.environment}.system.config.{name.replace('.', '%2E')}.updated"
    return subject, msgspec.json.encode(body)[:-1] + b',"data":' + data + b"," + tail
