"""Subscribers to changes of `/status`. They are called with a hint that carries no data."""

from __future__ import annotations

from collections.abc import Callable

from cfgsync_core import CfgsyncError

from ..runs.runner import Verdict


class Subscribers:
    """`subscribe(heard)` returns a function that ends the subscription; `changed()` calls every subscriber."""

    def __init__(self) -> None:
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._last_outcome: object = None

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `ChangingSource`."""
        key = object()
        self._subscribers[key] = heard

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def changed(self) -> None:
        """What `/status` answers has changed."""
        for heard in tuple(self._subscribers.values()):
            heard()

    def decided(self, verdict: Verdict) -> None:
        """A run has ended. The same refusal for the same registrations is no change."""
        outcome = verdict.outcome
        latest = (verdict.source, str(outcome) if isinstance(outcome, CfgsyncError) else outcome)
        if latest != self._last_outcome:
            self._last_outcome = latest
            self.changed()
