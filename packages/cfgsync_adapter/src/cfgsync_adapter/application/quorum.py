"""A readiness rule: wait for these nodes, or for a number of nodes, until they settle or a deadline passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import isfinite

from cfgsync_core import Condition, DocumentsSnapshot, InvalidRegistration, NotReady
from cfgsync_core.text import counted
from cfgsync_core.wire import check_identifier, describe

from .materializer import SnapshotMaterializer, type_of
from .snapshot import RegistrationSnapshot
from .wrapper import Result, Wrapper

SETTLES_WITHIN = 4.0
"""`settle_at_most` is so many times `settle` when it is not given."""


class Quorum(Wrapper):
    """Calls `inner` only when the rule holds: `Quorum(mine, expected=["node-1", "node-2"], deadline=60, at_least=1)`.

    - `expected`: identifiers to wait for; when all of them are registered, the fleet is ready at once.
    - `at_least`: how many nodes are enough (default: all `expected`).
    - `settle`: seconds without a change of the registry before "enough" is ready, so that nearly simultaneous nodes
      are not left out, and changes in a row make one generation. Later changes settle as well, also after the deadline,
      and also when all `expected` are registered.
    - `settle_at_most`: seconds after the first change that no generation holds yet; then settling ends although there are
      further changes (default: 4 times `settle`).
    - `deadline`: seconds since the first registration; then `at_least` nodes are enough, and with fewer the answer stays
      NotReady and names the missing nodes.

    With both `expected` and `at_least`, "enough" counts after `settle` or at the `deadline`, whichever is given and
    comes first. All times restart with the server. `clock` is the registry's: monotonic seconds.

    Raises `TypeError` and `ValueError` for arguments that make no rule.
    """

    def __init__(
        self,
        inner: SnapshotMaterializer,
        *,
        at_least: int | None = None,
        expected: Iterable[str] = (),
        settle: float = 0.0,
        settle_at_most: float | None = None,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._expected = _identifiers(expected)
        if at_least is None and not self._expected:
            raise ValueError("a Quorum needs at_least=, expected=, or both")
        self._at_least = len(self._expected) if at_least is None else _count(at_least, self._expected)
        self._settle = _seconds("settle", settle)
        self._settle_at_most = (
            SETTLES_WITHIN * self._settle
            if settle_at_most is None
            else _seconds("settle_at_most", settle_at_most)
        )
        if self._settle_at_most < self._settle:
            raise ValueError(
                f"settle_at_most={settle_at_most} is less than settle={settle}: it is the longest that settling takes"
            )
        if settle_at_most is not None and not self._settle:
            raise ValueError(f"settle_at_most={settle_at_most} bounds settle=, which is not given")
        self._deadline = None if deadline is None else _seconds("deadline", deadline)
        self._clock = clock

    @property
    def expected_nodes(self) -> tuple[str, ...]:
        return self._expected

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> Result:
        waiting = self._waiting_for(registrations)
        return waiting if waiting is not None else self._called(registrations, documents)

    def _waiting_for(self, registrations: RegistrationSnapshot) -> NotReady | None:
        now = self._clock()
        have = len(registrations)
        missing = tuple(name for name in self._expected if name not in registrations)
        first_at = now if registrations.first_at is None else registrations.first_at
        deadline_at = None if self._deadline is None else first_at + self._deadline
        enough = have >= self._at_least
        ends_at = self._enough_at(registrations, first_at, deadline_at, bool(missing)) if enough else None
        if ends_at is not None and ends_at <= now:
            return None
        is_over = deadline_at is not None and deadline_at <= now
        need = len(self._expected) or self._at_least
        here = len(self._expected) - len(missing) if self._expected else have
        note = ""
        if enough and self._settle and (is_over or not missing):
            note = f"settling for {self._settle:g} s"
        elif is_over:
            note = f"the deadline of {self._deadline:g} s is over and {self._at_least} are needed"
        conditions = (Condition("quorum", here, need, missing, note),)
        times = [at - now for at in (ends_at, deadline_at) if at is not None and at > now]
        return NotReady(describe("", conditions), conditions, retry_after=min(times) if times else None)

    def _enough_at(
        self,
        registrations: RegistrationSnapshot,
        first_at: float,
        deadline_at: float | None,
        is_missing_some: bool,
    ) -> float | None:
        """When this number of nodes, which is enough, is ready; None: never without the nodes that are missing."""
        since = registrations.unpublished_at
        if not self._settle:
            return deadline_at if is_missing_some else first_at
        if self._expected and not is_missing_some and (since is None or since <= first_at):
            return first_at  # the boot is complete
        changed_at = self._clock() if registrations.changed_at is None else registrations.changed_at
        ends = [changed_at + self._settle]
        if since is not None:
            ends.append(since + self._settle_at_most)
        if deadline_at is not None and (since is None or since <= deadline_at):
            ends.append(deadline_at)  # it ends the settling of what came before it
        return min(ends)


def _identifiers(expected: object) -> tuple[str, ...]:
    if isinstance(expected, str):
        raise TypeError(
            f"expected= is a list of identifiers, not {expected!r}: write expected=[{expected!r}]"
        )
    if isinstance(expected, bytes) or not isinstance(expected, Iterable):
        raise TypeError(f"expected= is a list of identifiers as text, not {type_of(expected)}")
    names = tuple(expected)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"expected= is a list of identifiers as text, and holds {type_of(name)}")
    impossible, why = [], ""
    for name in names:
        try:
            check_identifier(name)
        except InvalidRegistration as error:
            impossible.append(repr(name))
            why = error.why
    if impossible:
        raise ValueError(
            f"expected= has names that no node can have: {', '.join(impossible[:5])} (a name is {why})"
        )
    return tuple(sorted(set(names)))


def _count(at_least: object, expected: tuple[str, ...]) -> int:
    if not isinstance(at_least, int) or isinstance(at_least, bool):
        raise TypeError(f"at_least= is a number of nodes, not {at_least!r}")
    if at_least < 1:
        raise ValueError(f"at_least={at_least}: a quorum is at least 1 node")
    if expected and at_least > len(expected):
        raise ValueError(
            f"at_least={at_least} is more than the {counted(len(expected), 'expected node')}: at_least= says how many of them are enough"
        )
    return at_least


def _seconds(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}= is a number of seconds, not {value!r}")
    if not isfinite(value) or value < 0:
        raise ValueError(f"{name}={value}: give a number of seconds, 0 or more")
    return float(value)
