"""A node joins: one commit binds its name and spends a use of its token, so that neither happens without the other.

All names that wait are decided and committed together: a use for each in a commit of its own would cost the square of
their number in tries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from cfgsync_core import Conflict, Unavailable
from cfgsync_core.follow import BucketMirror
from cfgsync_core.log_events import event
from cfgsync_core.server import Reply, refusal
from cfgsync_core.text import counted

from .credentials import TOKEN, Binding, Credential, Token
from .tokens import Shown, Tokens, ends

TRIES: Final = 100
"""How often a commit may lose against one of another server; each time one of the servers has won."""

REMEMBERED: Final = 1_000
"""Refusals that are not said again."""

log = logging.getLogger("cfgsync")


class Joining(msgspec.Struct, frozen=True):
    """A node that wants the name `identifier` bound to its secret. `is_free`: also if another secret has it, since that
    node is silent for too long."""

    identifier: str
    secret: str
    token: str | None
    is_free: bool = False
    address: str = ""

    def __repr__(self) -> str:
        """Without the token."""
        return f"<Joining {self.identifier}>"


class JoiningNodes:
    """Binds names with join tokens. `bound` gives the binding of a name that counts now."""

    def __init__(
        self, held: BucketMirror[Credential], tokens: Tokens, bound: Callable[[str], Binding | None]
    ) -> None:
        self._held = held
        self._tokens = tokens
        self._bound = bound
        self._waiting: list[tuple[Joining, asyncio.Future[Reply | None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._refused: set[tuple[str, str]] = set()

    async def join(self, node: Joining) -> Reply | None:
        """Bind the name, durably on return; a refusal instead. A cancelled caller is decided all the same: a retry of it
        finds its name bound, and spends nothing. Raises `Unavailable`."""
        decided: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((node, decided))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._decide_all(), name="cfgsync-joining")
        return await asyncio.shield(decided)

    async def close(self) -> None:
        """Wait for the commit that is under way."""
        if self._task is not None:
            await self._task

    async def _decide_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                replies = await self._committed([node for node, _ in batch])
            except Exception as error:
                for _, decided in batch:
                    decided.set_exception(error)
                    decided.exception()  # a caller that has gone reads it no more
                continue
            for (_, decided), reply in zip(batch, replies, strict=True):
                decided.set_result(reply)

    async def _committed(self, nodes: list[Joining]) -> list[Reply | None]:
        await self._held.catch_up()
        for _ in range(TRIES):
            writes: dict[str, Credential | None] = {}
            said: list[tuple[str, str, int, bool]] = []
            replies = [self._decided(node, writes, said) for node in nodes]
            expected = {key: self._expected(key) for key in writes}
            try:
                if writes:
                    await self._held.commit(writes, expected)
            except Conflict:
                continue  # the mirror has read what another server has committed
            for name, token, left, again in said:
                log.info(
                    "%s joined with the token %s%s: %s left",
                    name,
                    token,
                    ", in the place of a node with another secret" if again else "",
                    counted(left, "use"),
                    extra=event("joined", identifier=name, token=token, uses=left, again=again),
                )
            for node, reply in zip(nodes, replies, strict=True):
                if reply is not None:
                    self.say_refused(node.identifier, node.address, reply)
            return replies
        raise Unavailable(f"other servers have changed the tokens {TRIES} times meanwhile")

    def say_refused(self, identifier: str, address: str, reply: Reply) -> None:
        """Once for each name and reason: a node that was refused may ask again and again."""
        why = str(msgspec.json.decode(b"".join(reply.chunks)).get("message", reply.status))
        if (identifier, why) in self._refused:
            return
        if len(self._refused) >= REMEMBERED:
            self._refused.clear()
        self._refused.add((identifier, why))
        log.warning(
            "%s did not join%s: %s",
            identifier,
            f", from {address}" if address else "",
            why,
            extra=event("join_refused", identifier=identifier, address=address, status=reply.status),
        )

    def _expected(self, key: str) -> int:
        is_taken = key.startswith(TOKEN) or self._bound(key) is not None
        return (self._held.revision_of(key) or 0) if is_taken else 0

    def _decided(
        self, node: Joining, writes: dict[str, Credential | None], said: list[tuple[str, str, int, bool]]
    ) -> Reply | None:
        """The refusal of one node; None after its writes were added to those of the nodes before it."""
        name = node.identifier
        bound = writes.get(name) or self._bound(name)
        if isinstance(bound, Binding) and bound.has(node.secret):
            return None
        shown = None if node.token is None else self._tokens.known(node.token)
        is_free = isinstance(bound, Binding) and (bound.is_free or node.is_free) and name not in writes
        is_taken = bound is not None and not is_free
        if is_taken and (shown is None or not shown.token.reclaim):
            return conflict(name)
        if shown is None:
            return _needed(name, node.token is not None)
        key = TOKEN + shown.id
        latest = writes.get(key)
        if isinstance(latest, Token):
            shown = Shown(shown.id, latest)
        if (refused := self._unusable(name, shown, is_taken)) is not None:
            return refused
        token = shown.token
        writes[key] = msgspec.structs.replace(token, uses=token.uses - 1)
        writes[name] = Binding(node.secret)
        said.append((name, token.name, token.uses - 1, bound is not None))
        return None

    def _unusable(self, name: str, shown: Shown, is_taken: bool) -> Reply | None:
        token, reclaims = shown.token, " --reclaim" if is_taken else ""
        if token.role != "join":
            return _refused(
                name,
                f"the token {token.name} is of role {token.role}, and a node joins with a join token",
                name,
            )
        if self._tokens.is_over(token.expires):
            return _refused(
                name, f"the join token {token.name} ended at {ends(token)}", token.covers, reclaims
            )
        if not fnmatchcase(name, token.covers):
            why = f"the join token {token.name} is for {token.covers}, and not for {name}"
            return _refused(name, why, name, reclaims, 403, "forbidden")
        if token.uses <= 0:
            why = f"the join token {token.name} has no uses left; it had {token.granted}"
            return _refused(name, why, token.covers, reclaims)
        return None


def conflict(identifier: str) -> Reply:
    """409: the name belongs to a node with another secret."""
    return refusal(
        409,
        "identity_conflict",
        f"{identifier} is already registered with another secret; an operator re-binds the name by evicting it:"
        " cfgsync node evict, or with a join token made with --reclaim",
    )


def _needed(name: str, has_one: bool) -> Reply:
    if has_one:
        return _refused(name, f"the join token that {name} has shown is unknown or revoked", name)
    return _refused(
        name, f"{name} has not joined, and this server requires a join token (`Cfgsync-Join-Token`)", name
    )


def _refused(
    name: str, why: str, covers: str, reclaims: str = "", status: int = 401, code: str = "unauthorized"
) -> Reply:
    return refusal(
        status,
        code,
        why,
        {"WWW-Authenticate": "Bearer"} if status == 401 else {},
        hint=f"on the server's machine: cfgsync token create --for '{covers}'{reclaims}; then cfgsync fetch --token-file FILE",
    )
