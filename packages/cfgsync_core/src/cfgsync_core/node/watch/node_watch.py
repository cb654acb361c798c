"""One node that stays in step after its boot: it reads with a held `POST /node`, applies each set of files whole and
acknowledges it. No answer, nor the lack of one, removes the files in place.

The rules are the `Reconciler`'s. The transport, the clock and the applying are arguments: `cfgsync fetch --watch` sends
over `http.client`, `CfgsyncClient.watch` over aiohttp.
"""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable, Sequence

from ...follow.acceptance import Alarm
from ...follow.clock import Clock
from ...follow.reconciler import Reconciler
from ...follow.timing import INTERVAL, ReaderState
from ...store.contract import Version
from ...wire.registration import NodeRegistration
from ..acknowledger import Transport
from ..outcomes import AppliedFiles, Fetched
from ..trust.signature import Verify
from .turn import NodeTurn
from .watched_node import ANSWER_WITHIN, WatchedNode


class NodeWatch(Reconciler[Fetched]):
    """Keeps one node in step while the context lasts, or until `run()` is cancelled. `state` tells how current the files
    are, `why` the reason when it is not CURRENT; `close()` waits for the application that is under way.

        async with NodeWatch(registration, transport, apply, held=held) as watch:
            ...                                  # watch.state, watch.why, watch.held

    `apply(fetched)` writes the files, durably on return. When it raises, the node acknowledges the failure, keeps the old
    files, and calls it again with the same files after a growing pause, or with newer ones. It is not called for
    unchanged files. `confirmed(held)` is awaited when a server has confirmed the files in place.
    `is_used(digest)`: whether the program uses these files; until then they are not acknowledged as applied, and
    `acknowledge` reports them later. `inspect()` is awaited after each request that brought no new files, and returns the
    payload paths that were changed on this machine. `held` is what is in place from before (None: nothing), `told`
    whether the server knows it; `join_token` lets a new name join; `seen` is the newest generation that the node ever
    accepted, if it holds nothing.
    `registration` may be a function, for an address that is not known yet. With `verify` the files must be signed. With
    `turn` it takes turns with other nodes; `apply` says there which files are on trial, and which it refused. With a
    server that does not hold requests, a change arrives within one `interval` (seconds, ± 10 %).
    """

    def __init__(
        self,
        registration: NodeRegistration | Callable[[], Awaitable[NodeRegistration]],
        transport: Transport,
        apply: Callable[[Fetched], Awaitable[object]],
        *,
        secret: str | None = None,
        join_token: str | None = None,
        held: AppliedFiles | None = None,
        told: bool = True,
        seen: Version | None = None,
        interval: float = INTERVAL,
        name: str = "",
        confirmed: Callable[[AppliedFiles], Awaitable[object]] | None = None,
        is_used: Callable[[str], bool] = lambda _: True,
        inspect: Callable[[], Awaitable[Sequence[str]]] | None = None,
        verify: Verify | None = None,
        turn: NodeTurn | None = None,
        on_state: Callable[[ReaderState], object] | None = None,
        on_alarm: Callable[[Alarm], object] | None = None,
        on_failure: Callable[[str], object] | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        name = name or (registration.identifier if isinstance(registration, NodeRegistration) else "")
        self._node = WatchedNode(
            *(
                registration,
                transport,
                apply,
                secret,
                join_token,
                held,
                told,
                seen,
                interval,
                confirmed,
                is_used,
                inspect,
                name,
            ),
            verify=verify,
            turn=turn,
        )
        super().__init__(
            self._node,
            interval=interval,
            held_reads=True,
            read_within=ANSWER_WITHIN,
            name=name or "node",
            on_state=on_state,
            on_alarm=on_alarm,
            on_failure=on_failure,
            clock=clock,
            random=random,
        )

    @property
    def held(self) -> AppliedFiles | None:
        """The files in place."""
        return self._node.held

    @property
    def waits_for(self) -> str:
        """The generation for which this node waits its turn, "" for none."""
        return self._node.waits_for

    def took_back(self, held: AppliedFiles) -> None:
        """The files of the turn were refused, and these are in place again."""
        self._node.held = held

    def turn_has_changed(self) -> None:
        """A trial has ended, and the server knows it: a held request that still tells of the trial is sent again."""
        self._node.turn_has_changed()

    async def acknowledge(self, over: Transport, failure: str | None = None) -> None:
        """Report that the program uses the files in place, or why it could not be told, over a transport of its own, since
        a request may be held meanwhile. Without an answer it is reported with the next contact."""
        await self._node.acknowledge(over, failure)
