"""What a program gets of the changes of a scope: each commit, or the whole state; and how an event of a commit is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

import msgspec

from cfgsync_core import Version
from cfgsync_core.store import epoch_ms


class ConfigChanged(msgspec.Struct, frozen=True):
    """One commit to the scope, the next after `previous`. `key` is `namespace/name` of its document, `""` when it wrote several."""

    version: Version
    previous: Version
    key: str
    timestamp: str


class ConfigState(msgspec.Struct, frozen=True):
    """The whole scope as it is now, `namespace/name` → JSON text: what was known before may be wrong."""

    version: Version
    documents: Mapping[str, str]


News: TypeAlias = ConfigChanged | ConfigState
Revision = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]


class CommitEvent(msgspec.Struct):
    """The body of `config.{app}.{env}.changed`."""

    version: Revision
    previous: Revision
    epoch: str
    timestamp: str
    namespace: str = ""
    config_key: str = msgspec.field(default="", name="configKey")

    @property
    def at(self) -> Version:
        """The scope's version with this commit."""
        return Version(self.epoch, self.version)


def read_event(data: bytes | None) -> CommitEvent | None:
    """None for what no server of cfgsync has sent."""
    try:
        found = _decode(data or b"")
        epoch_ms(found.epoch)
    except (ValueError, RecursionError):
        return None
    return found


_decode: Final = msgspec.json.Decoder(CommitEvent).decode
