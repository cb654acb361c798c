"""Kinds are data: a document of a scope says which documents belong to a kind, and how long a result of that kind may be used.

`cfgsync/kinds` holds `{"design_token": {"ttl": 300, "documents": "tokens/*"}}`. A change of a document of a kind expires every
cached result of it, and so does a bust by hand, which is a commit to `cfgsync/busted.{kind}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

import msgspec

from .document import DocumentName, Scope

RESERVED: Final = "cfgsync"
"""The namespace of what cfgsync itself keeps in a scope."""
KINDS: Final = f"{RESERVED}/kinds"
_BUSTED: Final = "busted."

MaxStale = Literal["forbid", "flagged"] | Annotated[float, msgspec.Meta(ge=0)]


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ttl` in seconds; `documents` is a pattern of `namespace/name`, or several (`*` and `?` as in a shell); `policy` is for
    people: who decides when two differ. `max_stale`: whether a result may be used past its `ttl` while no server answers:
    never (`forbid`), for so many seconds more, or for ever with its age (`flagged`). `key` is the pattern of its keys in Redis, such
    as `cfg:ui:{tenantId}:{userId}:{featureKey}`, whose names stand for the parts of a result's key, in their order."""

    ttl: Annotated[float, msgspec.Meta(gt=0)]
    documents: str | tuple[str, ...] = ()
    policy: str = "server_authoritative"
    max_stale: MaxStale = "forbid"
    key: str = ""

    def has(self, key: str) -> bool:
        """Whether the document `namespace/name` belongs to the kind."""
        patterns = (self.documents,) if isinstance(self.documents, str) else self.documents
        return any(fnmatchcase(key, pattern) for pattern in patterns)


KindName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}\Z")]
"""A word in the names of events, and of the document of a bust."""
Kinds = Mapping[KindName, Kind]


def read_kinds(data: bytes) -> Kinds:
    """The kinds in the document. Raises `msgspec.ValidationError`, which names the place."""
    return _read(data)


def kinds_name(scope: Scope) -> DocumentName:
    """The document that says which kinds a scope has."""
    return DocumentName(scope, *KINDS.split("/"))


def kind_version(name: str, kind: Kind, epoch: str, revisions: Mapping[str, int]) -> str:
    """What is equal for two states of a scope exactly when nothing has changed that belongs to the kind: the revision of the
    newest document of it, and how many there are, since the deletion of an older one changes only that."""
    own = {KINDS, f"{RESERVED}/{_BUSTED}{name}"}
    found = [revision for key, revision in revisions.items() if key in own or kind.has(key)]
    return f"{epoch}.{max(found, default=0)}.{len(found)}"


def busted_name(scope: Scope, kind: str) -> DocumentName:
    """The document whose revision is that of the last bust of a kind by hand."""
    return DocumentName(scope, RESERVED, f"{_BUSTED}{kind}")


_read: Final = msgspec.json.Decoder(dict[KindName, Kind]).decode
