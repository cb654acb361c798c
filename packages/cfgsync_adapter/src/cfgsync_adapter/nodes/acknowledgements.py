"""What each node has acknowledged, durably: after a restart an unchanged fleet is still converged.

The acknowledgements have their own bucket, so that one never makes a revision of the registrations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress

import msgspec

from cfgsync_core import Acknowledgement, Conflict, RevisionedStore, Version
from cfgsync_core.follow import BucketMirror, OtherServers

BUCKET = "acknowledgements"


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The node could not apply this generation's files. `reason` is the node's text, None when it gave no reason, `words` the
    last lines of its program."""

    generation: str
    digest: str
    reason: str | None = None
    words: str | None = None

    @property
    def sentence(self) -> str:
        """`generation 12: /srv is read-only`."""
        return f"generation {self.generation.rpartition('.')[2]}: {self.reason or 'no reason given'}"


class Acknowledged(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The acknowledgements of one node: the files (`digest`) that it applied last, their generation, its failure since
    then, the files that were changed on its disk (`drifted`), and the group in which it takes turns (None: in none)."""

    generation: str | None = None
    digest: str | None = None
    failure: Failure | None = None
    drifted: tuple[str, ...] = ()
    group: str | None = None

    def after(self, new: Acknowledgement, is_given: bool = True) -> Acknowledged:
        """The same with one more acknowledgement; after a failure, what was applied before is still applied. `is_given`:
        the generation gives the node these files; otherwise they belong to no known generation."""
        group = new.group or self.group  # a fetch by hand beside a watch names none
        if new.status == "applied":
            applied = new.generation if is_given else None
            return Acknowledged(applied, new.digest, drifted=new.drifted, group=group)
        failure = Failure(new.generation or "", new.digest, new.reason, new.words)
        return Acknowledged(self.generation, self.digest, failure, self.drifted, group)

    def has(self, digest: str) -> bool:
        """True when the node has applied these files and has not failed to apply the same ones since (a restored server
        offers what a node had before, and the node refuses it)."""
        return self.digest == digest and (self.failure is None or self.failure.digest != digest)


NOTHING = Acknowledged()


class Acknowledgements(BucketMirror[Acknowledged]):
    """The mirror of the acknowledgements. `changes` counts its changes. `groups` has the nodes that take turns, by group,
    `failing` those of them whose last acknowledgement is a failure."""

    def __init__(
        self,
        store: RevisionedStore,
        *,
        on_change: Callable[[], object] = lambda: None,
        others: OtherServers | None = None,
    ) -> None:
        super().__init__(
            store,
            BUCKET,
            msgspec.json.Decoder(Acknowledged).decode,
            msgspec.json.Encoder().encode,
            on_change=self._changed,
            others=others,
        )
        self._then = on_change
        self._coming: dict[str, Acknowledged] = {}  # being committed: the node's next one follows them
        self._tasks: set[asyncio.Task[Version]] = set()
        self.changes = 0
        self.groups: dict[str, set[str]] = {}
        self.failing: set[str] = set()

    def of(self, identifier: str) -> Acknowledged:
        """What this node has acknowledged."""
        return self.entries.get(identifier, NOTHING)

    async def record(self, new: Acknowledgement, *, is_given: bool = True) -> None:
        """Durable on return; a repetition commits nothing. Raises `Unavailable` and its subclasses."""
        known = self.of(new.identifier)
        now = self._coming.get(new.identifier, known).after(new, is_given)
        if now == known and new.identifier not in self._coming:
            return
        self._coming[new.identifier] = now
        # the acknowledgement counts also when its node disconnects before it is committed
        task = asyncio.create_task(self._write(new.identifier, now), name="cfgsync-acknowledgement")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def forget_failures(self, identifiers: Iterable[str]) -> None:
        """These nodes try the same files again: their failures so far mean nothing any more."""
        failed = {name: self.entries[name] for name in identifiers if name in self.failing}
        if failed:
            await self.commit(
                {name: msgspec.structs.replace(one, failure=None) for name, one in failed.items()},
                expected={name: self._revisions[name] for name in failed},
            )

    async def forget(self, identifiers: Iterable[str]) -> None:
        """Delete what these nodes acknowledged: they have left, and another node may get the same name."""
        gone = [name for name in identifiers if name in self.entries or name in self._coming]
        if gone:
            await self.commit(dict.fromkeys(gone))

    async def forget_strays(self, registered: Container[str]) -> None:
        """Delete the acknowledgements of nodes that are not `registered`, which a crash has left behind.

        The registrations must have been read after this bucket. An acknowledgement that arrives meanwhile is kept.
        """
        strays = {name: revision for name, revision in self._revisions.items() if name not in registered}
        if strays:
            with suppress(Conflict):
                await self.commit(dict.fromkeys(strays), expected=strays)

    async def _write(self, identifier: str, now: Acknowledged) -> Version:
        try:
            return await self.commit({identifier: now})
        finally:
            if self._coming.get(identifier) is now:
                del self._coming[identifier]

    def _changed(self, writes: Mapping[str, Acknowledged | None] | None) -> None:
        self.changes += 1
        if writes is None:
            self.groups, self.failing = {}, set()
        for name, now in (self.entries if writes is None else writes).items():
            group = None if now is None else now.group
            if writes is not None:
                for other, names in self.groups.items():
                    if other != group:
                        names.discard(name)
                self.failing.discard(name)
            if now is not None and group is not None:
                self.groups.setdefault(group, set()).add(name)
                if now.failure is not None:
                    self.failing.add(name)
        self._then()
