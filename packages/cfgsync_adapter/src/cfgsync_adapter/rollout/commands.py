"""What an operator says to a rollout, each as a function of its words."""

from __future__ import annotations

import msgspec

from .settlement import freed, replaced
from .words import Failed, Words


def pause(words: Words) -> Words:
    """No more turns are given until `resume`; the nodes that have one go on."""
    return Words(replaced(words.record, paused=True), words.turns)


def resume(words: Words) -> Words:
    """It goes on after what stops it: a pause, a canary or a halt. The failed nodes are left behind, named, until they are
    through."""
    if words.record.phase != "canary":
        return freed(words, paused=False)
    return freed(words, past_canary=True, at_canary=False)


def retry(words: Words) -> Words:
    """The failed nodes try the same files again, one after the other, before anybody else does."""
    record = words.record
    return Words(
        replaced(record, failed=_again(record.failed), left_behind=_again(record.left_behind)), words.turns
    )


def promote(words: Words) -> Words:
    """Everybody gets the current generation now."""
    return freed(words, promoted=True, paused=False, past_canary=True, at_canary=False)


def halt_to_revert(words: Words, number: int) -> Words:
    """Nobody is given a turn until the generation with the content of generation `number` is published."""
    return Words(replaced(words.record, halted=True, reverting=number), words.turns)


def _again(failed: dict[str, Failed]) -> dict[str, Failed]:
    return {
        name: msgspec.structs.replace(failure, digests=(), again=True) for name, failure in failed.items()
    }
