"""The newest state of documents before it is durable: a patch is posted onto the commit before it, and one group holds many.

Only where this process is the only writer, since the store then takes commits in the order in which they were posted: the
revision that each makes is known. A commit that ends otherwise ends the foresight, until nothing is under way: what was
posted after it expects a revision that no commit has made, so the store refuses it, and it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class StoredDocument(msgspec.Struct, frozen=True):
    """The value of a key: the document's JSON and its writer."""

    data: bytes
    by: str


class Head(NamedTuple):
    """The newest state of a document: the revision that writes it, 0 and None when it is absent."""

    revision: int
    stored: StoredDocument | None

    @property
    def data(self) -> bytes | None:
        return None if self.stored is None else self.stored.data


class Foreseen:
    """The heads of one scope whose commits are under way."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._under_way = 0
        self._revision = 0
        self._is_certain = True
        self._calm = asyncio.Event()

    def get(self, key: str) -> Head | None:
        """The head of a key that a commit under way writes."""
        return self._heads.get(key)

    async def certain(self) -> None:
        """Return when commits end as it was foreseen; after one that did not, when nothing is under way."""
        while not self._is_certain:
            await self._calm.wait()

    def post(self, committed: int, changes: Mapping[str, StoredDocument | None]) -> int:
        """A commit is on its way; returns the revision that it makes. Without `changes` it makes none."""
        if not self._under_way:
            self._revision = committed
        self._under_way += 1
        if changes:
            self._revision += 1
        for key, stored in changes.items():
            self._heads[key] = Head(0 if stored is None else self._revision, stored)
        return self._revision

    def end(self, changes: Mapping[str, StoredDocument | None], as_foreseen: bool) -> None:
        """That commit has ended."""
        self._under_way -= 1
        for key, stored in changes.items():
            head = self._heads.get(key)
            if head is not None and head.stored is stored:
                del self._heads[key]
        if not as_foreseen and self._is_certain:
            self._is_certain = False
            self._calm.clear()
        if not self._under_way:
            self._heads.clear()
            self._is_certain = True
            self._calm.set()
