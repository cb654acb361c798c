"""The last applied snapshot of a scope on disk, for a start without a server: replaced whole, and checked when it is read."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from cfgsync_artifacts import replace_file
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

from ..document import Scope

log = logging.getLogger("cfgsync.documents")


class CachedSnapshot(msgspec.Struct, frozen=True):
    """`documents` maps `namespace/key` to JSON, None for the default in a deleted document's place. `written_at` is in
    seconds since 1970, 0 when it is not known."""

    version: str
    documents: dict[str, str | None]
    written_at: float = 0.0


class _File(msgspec.Struct, frozen=True):
    digest: str
    snapshot: msgspec.Raw


class SnapshotFile:
    """The file of one scope below a directory."""

    def __init__(self, directory: Path, scope: Scope) -> None:
        self.path = directory / scope.app / f"{scope.environment}.json"

    def write(self, snapshot: CachedSnapshot) -> None:
        """Durable on return. Raises `DiskError`."""
        body = msgspec.json.encode(snapshot)
        file = _File(sha256(body).hexdigest(), msgspec.Raw(body))
        replace_file(str(self.path), msgspec.json.encode(file), 0o600)

    def read(self) -> CachedSnapshot | None:
        """What was written last, None without a file, and with a warning for one that cannot be used."""
        try:
            file = _read_file(self.path.read_bytes())
            if sha256(file.snapshot).hexdigest() != file.digest:
                raise ValueError("its digest does not match")
            return _read_snapshot(file.snapshot)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning(
                "the cached documents in %s cannot be used: %s",
                self.path,
                error_text(error),
                extra=event("cache_unusable", path=str(self.path)),
            )
            return None


_read_file: Final = msgspec.json.Decoder(_File).decode
_read_snapshot: Final = msgspec.json.Decoder(CachedSnapshot).decode
