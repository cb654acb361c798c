"""A fleet of nodes in this process that take turns from a real source over a real store, counted from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from random import Random

from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_core import Acknowledgement, NodeRegistration, Ready, StaleGeneration, Unavailable, Version
from cfgsync_core.wire import Kept, Mark, Turn

Source = Callable[[], object]


class Noted:
    """Gives every registered node a file with a `note`; change it and make a claim, and a generation follows."""

    def __init__(self, note: str = "first", *, at_once: bool = False) -> None:
        self.note = note
        self.is_at_once = at_once

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        files = ArtifactSet([ArtifactFile("/note", self.note)])
        made = MaterializedArtifacts.from_nodes({one.identifier: files for one in registrations})
        return made.at_once() if self.is_at_once else made


async def eventually(happened: Callable[[], object], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not happened():
            await asyncio.sleep(0.01)


class Watched:
    """What an observer of all programs sees: who is being restarted, how many at most at once, in which order they changed."""

    def __init__(self) -> None:
        self.restarting: dict[str, set[str]] = {}
        self.most: dict[str, int] = {}
        self.changed: list[str] = []

    def begin(self, group: str, name: str) -> None:
        now = self.restarting.setdefault(group, set())
        now.add(name)
        self.changed.append(name)
        self.most[group] = max(self.most.get(group, 0), len(now))

    def end(self, group: str, name: str) -> None:
        self.restarting.get(group, set()).discard(name)


class Taker:
    """One node: asks as `fetch --watch` does, changes, is on trial for `trial` seconds, and is healthy unless its note is one
    of `bad`. `source()` is the server that it asks now."""

    def __init__(
        self,
        name: str,
        source: Callable[[], object],
        watched: Watched,
        *,
        group: str = "default",
        trial: float = 0.0,
        bad: Iterable[str] = (),
        takes_turns: bool = True,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.watched = watched
        self.group = group
        self.trial = trial
        self.bad = frozenset(bad)
        self.takes_turns = takes_turns
        self.random = random
        self.known: str | None = None
        self.note = ""
        self.refused: tuple[str, str] | None = None  # digest, generation
        self.given: list[str] = []
        self.newest: Version | None = None

    @property
    def mark(self) -> Mark:
        return "steady" if self.refused is None else "refused"

    async def live(self) -> None:
        """Ask and change for ever."""
        while True:
            try:
                await self._once()
            except (Unavailable, StaleGeneration):
                await asyncio.sleep(0.02)

    async def _once(self) -> None:
        source = self.source()
        await source.register(NodeRegistration(self.name, "10.0.0.1"))  # type: ignore[attr-defined]
        named = self.known if self.refused is None else self.refused[0]
        turn = Turn(self.group, self.mark) if self.takes_turns else None
        answer = await source.turn_to(  # type: ignore[attr-defined]
            self.name, known=named, wait=0.5, seen=self.newest, turn=turn
        )
        if self._is_lost():
            return
        if isinstance(answer, Kept) or not isinstance(answer, Ready):
            return
        if answer.payload.digest == named and not answer.again:
            return
        await self._change(answer)

    async def _change(self, answer: Ready) -> None:
        digest, note = answer.payload.digest, _note(answer)
        assert answer.generation is not None
        generation = Version.parse(answer.generation)
        assert self.newest is None or generation >= self.newest, "RO-6"
        self.newest = generation
        self.given.append(note)
        is_first = self.known is None
        if not is_first:
            self.watched.begin(self.group, self.name)
        await asyncio.sleep(self.trial if not is_first else 0)
        is_bad = note in self.bad
        if is_bad:
            self.refused = digest, answer.generation
        else:
            self.known, self.note, self.refused = digest, note, None
        if not is_first:
            self.watched.end(self.group, self.name)
        await self._acknowledge(digest, answer.generation, "exit status 1" if is_bad else None)

    async def _acknowledge(self, digest: str, generation: str, failure: str | None) -> None:
        """Until a server has it; also twice."""
        group = self.group if self.takes_turns else None
        word = Acknowledgement.of(self.name, generation, digest, failure, group=group)
        for _ in range(2 if self._is_lost() else 1):
            while True:
                try:
                    await self.source().acknowledge(word)  # type: ignore[attr-defined]
                    break
                except StaleGeneration:
                    return
                except Unavailable:
                    await asyncio.sleep(0.02)

    def _is_lost(self) -> bool:
        return self.random is not None and self.random.random() < 0.1


def _note(answer: Ready) -> str:
    return answer.payload.local.split(b'"content":"')[1].split(b'"')[0].decode()


class Crowd:
    """These nodes alive while the context lasts."""

    def __init__(self, takers: Iterable[Taker]) -> None:
        self.takers = {one.name: one for one in takers}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Crowd:
        for name in self.takers:
            self.start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._tasks):
            await self.stop(name)

    def start(self, name: str) -> None:
        self._tasks[name] = asyncio.create_task(self.takers[name].live(), name=f"taker-{name}")

    async def stop(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def add(self, taker: Taker) -> None:
        self.takers[taker.name] = taker
        self.start(taker.name)

    def have(self, note: str) -> bool:
        return all(one.note == note for one in self.takers.values())

    def with_note(self, note: str) -> list[str]:
        return [one.name for one in self.takers.values() if one.note == note]


async def renew(materializer: Noted, note: str, claim: Callable[[], Awaitable[object]]) -> None:
    """The next generation, with this note."""
    materializer.note = note
    await claim()
