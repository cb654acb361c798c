"""Whether a reader may apply what it has read: one function of versions, with no I/O and no clock.

Same epoch and later: yes, whole or as contiguous steps. Same epoch and earlier: no. Same version, other content: an alarm.
A new epoch: whole, with a notice. A retired one: no. A reader that `resets` takes a lost history whole, with a notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

from ..store.contract import NEVER, Change, Version

C = TypeVar("C")


class Whole(msgspec.Struct, Generic[C], frozen=True):
    """Everything at one version, which is `NEVER` for a source without versions."""

    version: Version
    digest: str
    content: C


class Steps(msgspec.Struct, frozen=True):
    """What was committed since, in order, within one epoch."""

    epoch: str
    changes: tuple[Change, ...]

    @property
    def version(self) -> Version:
        """The state after the last step."""
        return Version(self.epoch, self.changes[-1].revision)


class Same(msgspec.Struct, frozen=True):
    """The reader's content is that of `version`. This may be later than the version it knows, even in a new epoch, when
    the digests were compared, as for a 304."""

    version: Version


class Away(msgspec.Struct, frozen=True):
    """No answer this time; the reader keeps what it has. `retry_after` is in seconds, if the source named it."""

    why: str
    retry_after: float | None = None


ReadResult: TypeAlias = Whole[C] | Steps | Same | Away

AlarmKind = Literal["regressed", "forked", "retired"]


class Alarm(msgspec.Struct, frozen=True):
    """What was read must not be applied. `regressed`: same epoch, earlier revision; `forked`: same version, other
    content; `retired`: an earlier epoch. `got` was read, `known` is the reader's version."""

    kind: AlarmKind
    known: Version
    got: Version

    @property
    def sentence(self) -> str:
        """The alarm for an operator."""
        if self.kind == "forked":
            return f"version {self.got} has two different contents, so history was rewritten; the new one is refused"
        if self.kind == "regressed":
            return f"history was lost: read {self.got}, but {self.known} is known; it is refused"
        return f"an older epoch: read {self.got}, but {self.known} is known; it is refused"


class Accept(msgspec.Struct, Generic[C], frozen=True):
    """Apply this. `notice` is a sentence for an operator (a new epoch), or ""."""

    news: Whole[C] | Steps | Same
    notice: str = ""


class Confirmed(msgspec.Struct, frozen=True):
    """The reader is up to date; there is nothing to apply."""


class ReadAgain(msgspec.Struct, frozen=True):
    """Read again at once; `whole` when the steps do not follow the reader's version."""

    whole: bool
    why: str


Judgement: TypeAlias = Accept[C] | Confirmed | ReadAgain | Alarm


def judge(
    asked: Version | None,
    held: Version | None,
    answer: Whole[C] | Steps | Same,
    same: Callable[[], bool] = lambda: False,
    *,
    resets: bool = False,
) -> Judgement[C]:
    """What to do with an answer to a reader that was at version `asked` when the read began and is at `held` now (None:
    nothing yet); its own commits may have moved it. `same` compares a Whole of the reader's own version with its content.
    `resets`: the source is right, also after a store was wiped, or restored from a backup in the same epoch; only a retired
    epoch is refused.
    """
    if isinstance(answer, Steps) and not answer.changes:
        return ReadAgain(True, "steps that lead nowhere")
    got = answer.version
    if held is None:
        return Accept(answer) if isinstance(answer, Whole) else ReadAgain(True, "nothing is held yet")
    if asked is not None and (alarm := _step_back(asked, got)) is not None:
        return _lost(alarm, answer) if resets else alarm
    if got.epoch != held.epoch:
        if got.epoch < held.epoch:
            return ReadAgain(False, "the view moved to a new epoch while this was read")
        if isinstance(answer, Steps):
            return ReadAgain(True, f"a new epoch: {got}, after {held}")
        return Accept(answer, f"a new epoch has begun: {got}, after {held}" if held.epoch else "")
    if got.revision < held.revision:
        return Confirmed()  # its own commits took the view past what was read
    if got.revision == held.revision:
        if not isinstance(answer, Whole) or same():
            return Confirmed()
        if got == NEVER:
            return Accept(answer)
        forked = Alarm("forked", held, got)
        return _lost(forked, answer) if resets else forked
    if not isinstance(answer, Steps):
        return Accept(answer)
    return _joined(held, answer)


def _step_back(asked: Version, got: Version) -> Alarm | None:
    if got.epoch == asked.epoch:
        return Alarm("regressed", asked, got) if got.revision < asked.revision else None
    return Alarm("retired", asked, got) if got.epoch < asked.epoch else None


def _lost(alarm: Alarm, answer: Whole[C] | Steps | Same) -> Judgement[C]:
    """What of a lost history is accepted."""
    if not isinstance(answer, Whole) or (alarm.kind == "retired" and answer.version != NEVER):
        return alarm
    what = "nothing is there any more" if answer.version == NEVER else f"read {alarm.got}"
    return Accept(
        answer,
        f"history was lost: {what}, and {alarm.known} was known; what was read is used"
        " (after restoring a backup run `cfgsync store new-epoch` before the server starts)",
    )


def _joined(held: Version, steps: Steps) -> Judgement[C]:
    """The steps after `held`, if they follow each other and the first follows it."""
    rest = tuple(change for change in steps.changes if change.revision > held.revision)
    for expected, change in enumerate(rest, held.revision + 1):
        if change.revision != expected:
            return ReadAgain(True, f"revision {change.revision} came where {expected} was due")
    return Accept(Steps(steps.epoch, rest))
