"""The lines that the log has of a rollout: that it halts and why, goes on, is taken back, and that everybody came through."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cfgsync_core.log_events import event
from cfgsync_core.text import both_ends, counted

from .words import Failed, Record

log = logging.getLogger("cfgsync")

NAMED = 3


def log_progress(before: Record, now: Record) -> None:
    """Say what one commit has changed."""
    number = now.generation.revision
    facts = {"generation": str(now.generation), "state": now.phase}
    if now.reverting and not before.reverting:
        message = f"the rollout of generation {number} is taken back: generation {now.reverting} comes again"
        log.warning("%s", message, extra=event("rollout", **facts))
    elif now.halted and not before.halted:
        message = f"the rollout of generation {number} is halted: {failures(now.failed, with_words=True)}"
        log.warning("%s", message, extra=event("rollout", **facts))
    elif now.phase != before.phase:
        words = {
            "rolling": "goes on",
            "canary": "waits after its canary: cfgsync rollout resume",
            "paused": "is paused",
        }
        message = f"the rollout of generation {number} {words.get(now.phase, now.phase)}"
        log.info("%s", message, extra=event("rollout", **facts))
    if now.whole and not (before.whole and before.generation == now.generation):
        message = f"generation {number} is rolled out: all nodes that take turns have it"
        log.info("%s", message, extra=event("rollout", **facts | {"state": "idle"}))


def failures(failed: Mapping[str, Failed], *, with_words: bool = False) -> str:
    """`node-4 failed: exit 1`, of the first ones; `with_words` of their programs only in the log."""

    def why(one: Failed) -> str:
        last = f"; its last lines: {one.words}" if with_words and one.words else ""
        return both_ends(one.reason + last, 300)

    words = [f"{name} failed: {why(one)}" for name, one in list(failed.items())[:NAMED]]
    if more := len(failed) - NAMED:
        words += [f"and {counted(more, 'more node')}"] if more > 0 else []
    return "; ".join(words)
