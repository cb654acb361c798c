"""A node's generations only go forward: it refuses an older answer, and other files under a number that it has seen.

An older epoch counts as older. A newer one is accepted with a notice, since a store may have been restored on purpose.
"""

from __future__ import annotations

from ..errors import IntegrityError
from ..store.contract import Version
from ..store.epoch import epoch_ms
from ..text import plain


class Regression(IntegrityError):
    """The answer is older than what this node has seen, or has other files under the same number."""


def checked_generation(text: str | None, seen: Version | None) -> tuple[str | None, str]:
    """The generation that an answer names, and a notice for an operator or ""; `seen` is the newest that this node has
    seen. Raises `Regression`; `IntegrityError` for text that does not decode."""
    if text is None:
        notice = (
            f"the server names no generation, but this node has seen {seen}: is it another kind of server?"
        )
        return None, "" if seen is None else notice
    try:
        got = Version.parse(text)
        age = (epoch_ms(got.epoch), got.epoch)
    except ValueError as error:
        raise IntegrityError(f"the generation {plain(text, 100)!r} is not <epoch>.<number>") from error
    if seen is None or (got.epoch == seen.epoch and got.revision >= seen.revision):
        return text, ""
    if got.epoch == seen.epoch:
        raise Regression(f"the server went back: it answers with generation {got}, this node has seen {seen}")
    if age < (epoch_ms(seen.epoch), seen.epoch):
        raise Regression(
            f"the server answers from an older epoch: with generation {got}, this node has seen {seen}"
        )
    return text, f"the server has begun a new epoch: {got}, after {seen}"


def refuse_contradiction(
    generation: str | None, digest: str, seen: Version | None, seen_digest: str | None
) -> None:
    """Raise `Regression` when `generation` has other files than before: a generation never changes."""
    if generation is not None and seen_digest not in (None, digest) and Version.parse(generation) == seen:
        raise Regression(
            f"the server gives generation {generation} as {digest}, this node has seen the same generation as"
            f" {seen_digest}"
        )
