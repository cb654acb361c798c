"""What an operator's routes answer: renew, replace, the generations and a snapshot of the fleet.

Work that grows with the fleet is done in a thread, and answered in pages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from cfgsync_adapter import Generation, RegistrationConfigSource
from cfgsync_adapter.generations import PayloadTooLarge
from cfgsync_adapter.runs import Renewal
from cfgsync_adapter.status import difference_page, generation_page, generation_summaries, summarize
from cfgsync_artifacts import DuplicatePath, InvalidArtifact
from cfgsync_core import InvalidRequest, NodeRegistration, NotReady, Version
from cfgsync_core.server import Call, Reply, page_of, refusal
from cfgsync_core.store import uuid7
from cfgsync_core.wire import NO_REPLACEMENT, REPLACEMENT, Replacement, encode_registration

RENEW_SECONDS: Final = 30.0
"""How long a renewal is held at most until its run has a verdict."""
CUTS: Final = 2
"""Snapshots that are being read at a time; one more ends the oldest."""


class Renew(msgspec.Struct, frozen=True):
    """The body of `POST /admin/renew`. `accept`: the result may leave out what the shrink guard would refuse."""

    accept: bool = False


class Renewed(msgspec.Struct, frozen=True):
    """The answer to `POST /admin/renew`. `outcome` is `new` (a generation with another number), `equal` (the artifacts
    are those of the current one), `not_ready`, `failed`, or `pending` (202: no run has ended in time)."""

    outcome: str
    claim: int
    generation: str | None
    reason: str = ""


class _Cut(msgspec.Struct, frozen=True):
    """One state of the fleet, while its pages are asked for."""

    taken_ms: int
    version: Version
    registrations: Mapping[str, NodeRegistration]
    names: list[str]
    generation: Generation | None


class OperatorHandlers:
    """The handlers of one server; `operator_routes` has their routes."""

    def __init__(self, source: RegistrationConfigSource) -> None:
        self._source = source
        self._cuts: dict[str, _Cut] = {}

    async def renew(self, call: Call) -> Reply:
        """A claim by an operator, held for `?wait=SECONDS` (default and cap 30) until the first run on it has ended."""
        asked: Renew = call.value
        wait = _number(call.query, "wait", RENEW_SECONDS)
        said = _renewed(await self._source.parts.operator.renew(asked.accept, wait=min(wait, RENEW_SECONDS)))
        return Reply(202 if said.outcome == "pending" else 200, (msgspec.json.encode(said),))

    async def replace(self, call: Call) -> Reply:
        """One node's own files; 202 when they are kept, in the next generation soon after. With `Cfgsync-Replacement: none`
        there were none to take away."""
        wanted: Replacement = call.value
        in_vain = not len(wanted.files) and wanted.identifier not in self._source.parts.replacements
        try:
            await self._source.parts.operator.replace(wanted.identifier, wanted.files)
        except DuplicatePath as error:
            raise InvalidRequest(422, f"files: {error}: it is a shared file's too") from error
        except InvalidArtifact as error:
            raise InvalidRequest(422, f"files: {error}") from error
        except PayloadTooLarge as error:
            raise InvalidRequest(413, f"files: {error}") from error
        return Reply(202, headers={REPLACEMENT: NO_REPLACEMENT} if in_vain else {})

    async def generations(self, call: Call) -> Reply:
        """All heads; with `?number=N` one generation's nodes (`&contents=1`); with `?from=A&to=B` a difference."""
        source, query = self._source, call.query
        limit, after = page_of(query)
        if "number" in query:
            one = self._held(query, "number")
            contents = query.get("contents") == "1"
            return await _worded(lambda: generation_page(one, after=after, limit=limit, contents=contents))
        if "from" in query or "to" in query:
            one, other = self._held(query, "from"), self._held(query, "to")
            return await _worded(lambda: difference_page(one, other, since=after, limit=limit))
        return await _worded(lambda: {"generations": generation_summaries(source.parts.publisher)})

    async def snapshot(self, call: Call) -> Reply:
        """The registrations and the served generation, as one cut, in pages: `?cut=…&after=…` is the next one."""
        limit, after = page_of(call.query)
        token = call.query.get("cut", "")
        if not token:
            token = str(uuid7(time.time_ns() // 1_000_000))
            version, registrations = self._source.parts.registry.registered()
            generation = self._source.generation
            names = await asyncio.to_thread(_names, registrations, generation)
            while len(self._cuts) >= CUTS:
                self._cuts.pop(next(iter(self._cuts)))
            self._cuts[token] = _Cut(time.time_ns() // 1_000_000, version, registrations, names, generation)
        cut = self._cuts.get(token)
        if cut is None:
            return refusal(
                404, "not_found", "this cut of the fleet is no longer held: begin anew without `cut`"
            )
        words = await asyncio.to_thread(_page, cut, token, after, limit)
        if words["next"] is None:
            self._cuts.pop(token, None)
        return await _worded(lambda: words)

    def _held(self, query: Mapping[str, str], word: str) -> Generation:
        publisher, text = self._source.parts.publisher, query.get(word, "")
        found = (
            publisher.numbered(int(text)) if text.isascii() and text.isdigit() and len(text) < 18 else None
        )
        if found is None:
            held = [str(one.number) for one in generation_summaries(publisher) if one.contents]
            raise InvalidRequest(
                422,
                f"{word}: the files of generation {text[:40] or '(none given)'} are not held;"
                f" held are those of {' and '.join(held) or 'none'}",
            )
        return found


def _renewed(said: Renewal) -> Renewed:
    if said.verdict is None:
        why = "no run has ended in time; cfgsync status says what becomes of it"
        return Renewed("pending", said.claim, said.before, why)
    outcome = said.verdict.outcome
    if isinstance(outcome, Generation):
        kind = "equal" if outcome.text == said.before else "new"
        return Renewed(kind, said.claim, outcome.text)
    if isinstance(outcome, NotReady):
        return Renewed("not_ready", said.claim, said.before, outcome.reason)
    return Renewed("failed", said.claim, said.before, str(outcome))


def _names(registrations: Mapping[str, NodeRegistration], generation: Generation | None) -> list[str]:
    return sorted(registrations.keys() | (generation.nodes.keys() if generation is not None else set()))


def _page(cut: _Cut, token: str, after: str, limit: int) -> dict[str, Any]:
    """One page of a cut: the registrations of those names that its nodes reach to."""
    generation = cut.generation
    page = None
    names = [name for name in cut.names if name > after]
    if generation is not None:
        page = generation_page(generation, after=after, limit=limit, contents=True)
    # a page of nodes may end early: the registrations end where it does
    last = names[limit - 1] if len(names) > limit else None
    if page is not None and page.next is not None and (last is None or page.next < last):
        last = page.next
    here = [name for name in names if last is None or name <= last]
    return {
        "cut": token,
        "taken_at": _rfc3339(cut.taken_ms),
        "version": str(cut.version),
        "generation": None if generation is None else summarize(generation),
        "registrations": [
            msgspec.Raw(encode_registration(cut.registrations[name]))
            for name in here
            if name in cut.registrations
        ],
        "shared": () if page is None else page.shared,
        "nodes": ()
        if page is None
        else [node for node in page.nodes if last is None or node.identifier <= last],
        "next": last,
    }


def _rfc3339(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))


def _number(query: Mapping[str, str], word: str, default: float) -> float:
    with suppress(ValueError):
        found = float(query.get(word, ""))
        if found >= 0:
            return found
    return default


async def _worded(words: Callable[[], object]) -> Reply:
    return Reply(200, (await asyncio.to_thread(lambda: msgspec.json.encode(words())),))
