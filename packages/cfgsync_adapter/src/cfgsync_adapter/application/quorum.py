"""A readiness rule: wait for these nodes, or for a number of nodes, until they settle or a deadline passes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

from cfgsync_core import Condition, NotReady
from cfgsync_core.wire import describe

from .materializer import MaterializationResult, RegistrationSnapshotMaterializer
from .snapshot import RegistrationSnapshot


class Quorum:
    """Calls `inner` only when the rule holds: `Quorum(mine, expected=["node-1", "node-2"], deadline=60, at_least=1)`.

    - `expected`: identifiers to wait for; when all of them are registered, the fleet is ready at once.
    - `at_least`: how many nodes are enough (default: all `expected`).
    - `settle`: seconds without a change of the registry before "enough" is ready, so that nearly simultaneous nodes
      are not left out.
    - `deadline`: seconds since the first registration; then `at_least` nodes are enough, and with fewer the answer stays
      NotReady and names the missing nodes.

    With both `expected` and `at_least`, "enough" counts after `settle` or at the `deadline`, whichever is given and
    comes first. Both times restart with the server. `clock` is the registry's: monotonic seconds.
    """

    def __init__(
        self,
        inner: RegistrationSnapshotMaterializer,
        *,
        at_least: int | None = None,
        expected: Iterable[str] = (),
        settle: float = 0.0,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._expected = tuple(sorted(set(expected)))
        if at_least is None and not self._expected:
            raise ValueError("a Quorum needs at_least=, expected=, or both")
        self._at_least = len(self._expected) if at_least is None else at_least
        if self._at_least < 1:
            raise ValueError(f"at_least={self._at_least}: a quorum is at least 1 node")
        self._settle = settle
        self._deadline = deadline
        self._clock = clock

    @property
    def revision(self) -> str:
        return str(getattr(self._inner, "revision", ""))

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        waiting = self._waiting_for(registrations)
        return waiting if waiting is not None else self._inner.materialize_snapshot(registrations)

    def _waiting_for(self, registrations: RegistrationSnapshot) -> NotReady | None:
        missing = tuple(name for name in self._expected if name not in registrations)
        if self._expected and not missing:
            return None
        now = self._clock()
        have, enough = len(registrations), len(registrations) >= self._at_least
        first_at = registrations.first_at if registrations.first_at is not None else now
        changed_at = registrations.changed_at if registrations.changed_at is not None else now
        left = None if self._deadline is None else first_at + self._deadline - now
        quiet = changed_at + self._settle - now
        if enough:
            if left is not None and left <= 0:
                return None
            if self._settle and quiet <= 0:
                return None
            if not self._settle and not self._expected:
                return None
        times = [t for t in (quiet if enough and self._settle else None, left) if t is not None and t > 0]
        need = len(self._expected) or self._at_least
        here = len(self._expected) - len(missing) if self._expected else have
        note = ""
        if enough and not missing:
            note = f"settling for {self._settle:g} s"
        if left is not None and left <= 0:
            note = f"the deadline of {self._deadline:g} s is over and {self._at_least} are needed"
        conditions = (Condition("quorum", here, need, missing, note),)
        return NotReady(describe("", conditions), conditions, retry_after=min(times) if times else None)
