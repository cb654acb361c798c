"""The handlers of an operator's routes. Work that grows with the fleet is done in a thread, and answered in pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from cfgsync_adapter import Generation, RegistrationConfigSource
from cfgsync_adapter.generations import PayloadTooLarge
from cfgsync_adapter.runs import Renewal
from cfgsync_adapter.status import difference_page, generation_page, generation_summaries
from cfgsync_artifacts import DuplicatePath, InvalidArtifact
from cfgsync_core import InvalidRequest, MaterializationFailed, NotReady
from cfgsync_core.server import Call, Reply, page_of, refusal
from cfgsync_core.store import uuid7
from cfgsync_core.text import rfc3339
from cfgsync_core.wire import NO_REPLACEMENT, REPLACEMENT, Replacement

from .recording import Cut

RENEW_SECONDS: Final = 30.0
"""How long a renewal is held at most, until its run has ended."""
CUTS: Final = 2
"""Snapshots that can be read at a time; one more ends the oldest."""


class Renew(msgspec.Struct, frozen=True):
    """The body of `POST /admin/renew`. `accept`: the result may leave out what the shrink guard would refuse. `at_once`: nodes
    take no turns for it."""

    accept: bool = False
    at_once: bool = False


class Renewed(msgspec.Struct, frozen=True):
    """The answer to `POST /admin/renew`. `outcome` is `new` (a generation with another number), `equal` (the artifacts
    are those of the current one), `not_ready`, `failed`, or `pending` (202: no run has ended in time)."""

    outcome: str
    claim: int
    generation: str | None
    reason: str = ""


class OperatorHandlers:
    """The handlers of one server; `operator_routes` has their routes."""

    def __init__(self, source: RegistrationConfigSource) -> None:
        self._source = source
        self._cuts: dict[str, Cut] = {}

    async def renew(self, call: Call) -> Reply:
        """A claim by an operator, held for `?wait=SECONDS` (default and maximum 30) until the first run on it has ended."""
        renew: Renew = call.value
        wait = RENEW_SECONDS
        with suppress(ValueError):
            wanted = float(call.query.get("wait", ""))
            wait = wanted if 0 <= wanted < RENEW_SECONDS else RENEW_SECONDS
        renewed = _renewed(
            await self._source.parts.operator.renew(renew.accept, at_once=renew.at_once, wait=wait)
        )
        return Reply(202 if renewed.outcome == "pending" else 200, (msgspec.json.encode(renewed),))

    async def replace(self, call: Call) -> Reply:
        """Replace one node's own files, from the next generation on; 202 when that is durable. `Cfgsync-Replacement: none`:
        the request removes a replacement, and the node has none."""
        wanted: Replacement = call.value
        operator = self._source.parts.operator
        is_needless = not len(wanted.files) and wanted.identifier not in self._source.parts.replacements
        try:
            await operator.replace(wanted.identifier, wanted.files)
        except DuplicatePath as error:
            raise InvalidRequest(422, f"files: {error}: a shared file has it, too") from error
        except InvalidArtifact as error:
            raise InvalidRequest(422, f"files: {error}") from error
        except PayloadTooLarge as error:
            raise InvalidRequest(413, f"files: {error}") from error
        return Reply(202, headers={REPLACEMENT: NO_REPLACEMENT} if is_needless else {})

    async def generations(self, call: Call) -> Reply:
        """All heads; with `?number=N` one generation's nodes (`&contents=1`); with `?from=A&to=B` a difference."""
        query, (limit, after) = call.query, page_of(call.query)
        if "number" in query:
            one = self._held(query, "number")
            contents = query.get("contents") == "1"
            return await _encoded(lambda: generation_page(one, after=after, limit=limit, contents=contents))
        if "from" in query or "to" in query:
            one, other = self._held(query, "from"), self._held(query, "to")
            return await _encoded(lambda: difference_page(one, other, since=after, limit=limit))
        parts = self._source.parts
        return await _encoded(lambda: {"generations": generation_summaries(parts.publisher, parts.turns)})

    async def snapshot(self, call: Call) -> Reply:
        """The registrations and the served generation, as one cut, in pages; `?cut=…&after=…` is the next page."""
        limit, after = page_of(call.query)
        token = call.query.get("cut", "")
        if not token:
            token = str(uuid7(time.time_ns() // 1_000_000))
            registered = self._source.parts.registry.registered()
            while len(self._cuts) >= CUTS:
                self._cuts.pop(next(iter(self._cuts)))
            now = rfc3339(int(time.time()))
            feed = self._source.parts.documents
            documents = None if feed is None else feed.current
            self._cuts[token] = Cut(token, now, *registered, self._source.generation, documents)
        cut = self._cuts.get(token)
        if cut is None:
            return refusal(404, "not_found", "the server no longer holds this cut; start again without `cut`")
        page = await asyncio.to_thread(cut.page, after, limit)
        if page.next is None:
            self._cuts.pop(token, None)
        return await _encoded(lambda: page)

    def _held(self, query: Mapping[str, str], name: str) -> Generation:
        publisher, turns = self._source.parts.publisher, self._source.parts.turns
        text = query.get(name, "")
        is_number = text.isascii() and text.isdigit() and len(text) < 18
        found = publisher.numbered(int(text)) if is_number else None
        if found is None:
            held = [str(one.number) for one in generation_summaries(publisher, turns) if one.contents]
            raise InvalidRequest(
                422,
                f"{name}: the files of generation {text[:40] or '(none given)'} are not held;"
                f" the server holds those of {' and '.join(held) or 'no generation'}",
            )
        return found


def _renewed(renewal: Renewal) -> Renewed:
    if renewal.verdict is None:
        why = "no run has ended in time; cfgsync status shows its outcome later"
        return Renewed("pending", renewal.claim, renewal.before, why)
    outcome = renewal.verdict.outcome
    if isinstance(outcome, Generation):
        kind = "equal" if outcome.text == renewal.before else "new"
        return Renewed(kind, renewal.claim, outcome.text)
    if isinstance(outcome, NotReady):
        return Renewed("not_ready", renewal.claim, renewal.before, outcome.reason)
    words = outcome.in_full if isinstance(outcome, MaterializationFailed) else str(outcome)
    return Renewed("failed", renewal.claim, renewal.before, words)


async def _encoded(made: Callable[[], object]) -> Reply:
    return Reply(200, (await asyncio.to_thread(lambda: msgspec.json.encode(made())),))
