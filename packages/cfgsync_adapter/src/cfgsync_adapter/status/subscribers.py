"""Who wants to know that `/status` says something new, and is told so: a hint, with nothing in it."""

from __future__ import annotations

from collections.abc import Callable

from cfgsync_core import CfgsyncError

from ..runs.runner import Verdict


class Subscribers:
    """`subscribe(heard)` returns how to end it; `changed()` tells everybody."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[], None]] = {}
        self._last_news: object = None

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `ChangingSource`."""
        key = object()
        self._listeners[key] = heard

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    def changed(self) -> None:
        """What `/status` says of the fleet has changed."""
        for heard in tuple(self._listeners.values()):
            heard()

    def decided(self, verdict: Verdict) -> None:
        """A run has ended; the same refusal for the same nodes, asked again, is no change."""
        outcome = verdict.outcome
        news = (verdict.source, str(outcome) if isinstance(outcome, CfgsyncError) else outcome)
        if news != self._last_news:
            self._last_news = news
            self.changed()
