"""The config documents that a materializer reads: one state of an environment, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import msgspec

from ..store.contract import NEVER, Version
from .registration import decode_json

T = TypeVar("T")


class DocumentsSnapshot:
    """The documents of one environment at `version`. A test makes one of values:
    `DocumentsSnapshot({"limits": {"players": 50}, "lobby/theme": {"dark": True}})`; a name without a namespace is in `default`.
    """

    __slots__ = ("json", "version")

    def __init__(self, values: Mapping[str, object] | None = None, *, version: Version = NEVER) -> None:
        self.json: Mapping[str, str] = {
            name if "/" in name else f"default/{name}": msgspec.json.encode(value).decode()
            for name, value in (values or {}).items()
        }
        """The JSON of each document by `namespace/name`."""
        self.version = version

    @classmethod
    def from_json(cls, documents: Mapping[str, str], version: Version = NEVER) -> Self:
        """A snapshot of JSON by `namespace/name`."""
        made = cls(version=version)
        made.json = documents
        return made

    def get(self, name: str, namespace: str = "default") -> Any:
        """The value of a document, decoded; None for one that is absent, too."""
        json = self.json.get(f"{namespace}/{name}")
        return None if json is None else msgspec.json.decode(json)

    def get_as(self, name: str, kind: type[T], namespace: str = "default") -> T | None:
        """A document as a Struct, a dataclass or a pydantic model; None for one that is absent. Raises
        `msgspec.ValidationError`, which names the field."""
        json = self.json.get(f"{namespace}/{name}")
        return None if json is None else decode_json(json, kind, f"the document {namespace}/{name}")

    def __contains__(self, name: object) -> bool:
        return (name if "/" in str(name) else f"default/{name}") in self.json

    def __len__(self) -> int:
        return len(self.json)

    def __eq__(self, other: object) -> bool:
        """Equal documents; the version does not count."""
        return self.json == other.json if isinstance(other, DocumentsSnapshot) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self.json))

    def __repr__(self) -> str:
        return f"DocumentsSnapshot({len(self)} documents at {self.version})"
