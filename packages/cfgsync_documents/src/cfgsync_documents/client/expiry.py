"""Results that a program has computed or fetched, each used for as long as its kind permits, and never past an event that
expires the kind: an answer that was under way when the event came is not kept either.

    async with manager.results(app="shop", env="live") as cache:
        shown = await cache.get_or_compute("ui_definition", (tenant, user, feature), compute)
        shown.value, shown.age, shown.is_stale
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import Unavailable
from cfgsync_core.text import plain

from ..kinds import Kind

if TYPE_CHECKING:
    from .redis_results import RedisResults

T = TypeVar("T")

DEFAULT_KINDS: Final[Mapping[str, Kind]] = {
    "evaluation": Kind(60, key="cfg:{tenantId}:{userId}:{nodeId}:{moduleKey}:{featureKey}"),
    "ui_definition": Kind(120, key="cfg:ui:{tenantId}:{userId}:{featureKey}"),
    "design_token": Kind(300, key="cfg:tokens:{tenantId}:{userId}:{moduleKey}:{locale}:{nodeId}"),
}
"""Resolution results, elements of a user interface, and design tokens, until the scope has a document of its own."""
MAX_RESULTS: Final = 10_000
_NAMED: Final = re.compile(r"\{[^{}]*\}")

Key: TypeAlias = tuple[str, ...]
"""Everything that the result depends on, as strings, also the tenant and the user: no other key ever gets it."""


class UnknownKind(CfgsyncError, LookupError):
    """The scope has no such kind: add it to the document `kinds` in the namespace `cfgsync`."""


class Result(msgspec.Struct, Generic[T], frozen=True):
    """A value, and the seconds since the request for it began. `is_stale`: it is past its time, no answer came, and its kind
    permits that (`max_stale`)."""

    value: T
    age: float
    is_stale: bool = False


class _Kept(msgspec.Struct, frozen=True):
    value: Any
    began: float
    busts: tuple[int, int]
    gaps: int


class ResultCache:
    """The newest `max_results` results in memory. `clock` is monotonic, in seconds. One event loop uses it."""

    def __init__(
        self,
        kinds: Mapping[str, Kind] = DEFAULT_KINDS,
        *,
        max_results: int = MAX_RESULTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kinds = kinds
        """How long a result of each kind may be used; another mapping may take its place at any time."""
        self.versions: Mapping[str, str] = {}
        """That of each kind now, as its key in `shared` ends; a kind without one is not shared."""
        self.shared: RedisResults | None = None
        self._max_results = max_results
        self._clock = clock
        self._kept: OrderedDict[tuple[str, Key], _Kept] = OrderedDict()
        self._under_way: dict[tuple[object, ...], asyncio.Task[_Kept]] = {}
        self._busts: Counter[str | None] = Counter()
        self._gaps = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get_or_compute(self, kind: str, key: Key, compute: Callable[[], Awaitable[T]]) -> Result[T]:
        """The result of `key` that is held, or that `compute` gives; equal calls at once share one `compute`.

        When `compute` raises `Unavailable`, or an `OSError` such as a lost connection or a time-out, an older result is
        given as stale, if its kind permits. Raises what `compute` raises; `UnknownKind`; `TypeError` for another key.
        """
        if not isinstance(key, tuple) or not all(isinstance(part, str) for part in key):
            # also without `shared`: 1, 1.0 and True would be one key here, and three there
            raise TypeError(f"the key of a result is a tuple of strings, and not {plain(repr(key), 80)}")
        rule = self._rule(kind)
        held = self._held(kind, key)
        if held is not None and held.gaps == self._gaps and self._age(held) <= rule.ttl:
            self._kept.move_to_end((kind, key))
            return Result(held.value, self._age(held))
        try:
            made = await self._computed(kind, key, compute)
        except (Unavailable, OSError):
            held = self._held(kind, key)  # an event may have come meanwhile
            if held is None or not _may_be_stale(rule, self._age(held)):
                raise
            return Result(held.value, self._age(held), is_stale=True)
        return Result(made.value, self._age(made))

    def bust(self, kind: str | None) -> None:
        """Expire a kind at once, None for all: no result of it is used any more, not even as stale."""
        self._busts[kind] += 1

    def gap(self) -> None:
        """Events may have been missed: from now on no result from before is used without asking again."""
        self._gaps += 1

    def _rule(self, kind: str) -> Kind:
        try:
            return self.kinds[kind]
        except KeyError:
            raise UnknownKind(
                f"unknown kind {kind!r}; there are {', '.join(sorted(self.kinds)) or 'none'}"
            ) from None

    def _age(self, kept: _Kept) -> float:
        return self._clock() - kept.began

    def _seen(self, kind: str) -> tuple[int, int]:
        return self._busts[None], self._busts[kind]

    def _held(self, kind: str, key: Key) -> _Kept | None:
        held = self._kept.get((kind, key))
        if held is not None and held.busts != self._seen(kind):
            del self._kept[kind, key]
            return None
        return held

    async def _computed(self, kind: str, key: Key, compute: Callable[[], Awaitable[T]]) -> _Kept:
        busts, gaps = self._seen(kind), self._gaps
        flight = (kind, key, busts, gaps)  # a call after an event does not join one from before it
        task = self._under_way.get(flight)
        if task is None:
            began = self._clock()

            async def work() -> _Kept:
                place = self._place(kind, key)
                kept = await self._found(kind, place, began, busts, gaps)
                is_new = kept is None
                if kept is None:
                    kept = _Kept(await compute(), began, busts, gaps)
                if busts == self._seen(kind):
                    self._keep(kind, key, kept)
                    if is_new:
                        await self._share(kind, place, kept)
                return kept

            task = self._under_way[flight] = asyncio.create_task(work(), name=f"cfgsync-result {kind}")
            task.add_done_callback(lambda done: self._landed(flight, done))
        return await asyncio.shield(task)

    def _place(self, kind: str, key: Key) -> str:
        """The key in `shared`, `""` for none. It begins as the pattern of the kind says, and ends in the length of each part of
        `key`, so that no separator of the pattern can confuse two, in scope and kind, and in the version that the kind has now."""
        version = self.versions.get(kind)
        if self.shared is None or version is None or kind not in self.kinds:
            return ""
        parts = [quote(part, safe="", errors="surrogatepass") for part in key]
        lengths = ".".join(str(len(part)) for part in parts)
        pattern = self.kinds[kind].key or f"cfg:{kind}"
        shown = _NAMED.sub(lambda _: parts.pop(0) if parts else "", pattern)
        return ":".join((shown, *parts, lengths, *self.shared.scope, kind, version))

    async def _found(
        self, kind: str, place: str, began: float, busts: tuple[int, int], gaps: int
    ) -> _Kept | None:
        found = await self.shared.get(place) if self.shared is not None and place else None
        if found is None:
            return None
        try:
            value = msgspec.json.decode(found.data)
        except (ValueError, RecursionError):  # somebody else's
            return None
        return _Kept(value, began - max(self._rule(kind).ttl - found.left, 0.0), busts, gaps)

    async def _share(self, kind: str, place: str, kept: _Kept) -> None:
        if self.shared is None or not place:
            return
        try:
            data = msgspec.json.encode(kept.value)
            is_json = msgspec.json.decode(data) == kept.value
        except (TypeError, ValueError, RecursionError):
            return
        if is_json:  # another process gets what this one has
            await self.shared.put(place, data, self._rule(kind).ttl - self._age(kept))

    def _keep(self, kind: str, key: Key, kept: _Kept) -> None:
        self._kept[kind, key] = kept
        self._kept.move_to_end((kind, key))
        while len(self._kept) > self._max_results:
            self._kept.popitem(last=False)

    def _landed(self, flight: tuple[object, ...], done: asyncio.Task[_Kept]) -> None:
        self._under_way.pop(flight, None)
        if not done.cancelled():
            done.exception()  # nobody may be waiting for it any more


def _may_be_stale(rule: Kind, age: float) -> bool:
    if rule.max_stale == "forbid":
        return False
    return rule.max_stale == "flagged" or age <= rule.ttl + rule.max_stale
