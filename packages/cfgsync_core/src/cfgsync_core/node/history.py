"""A node's generations only go forward: an answer from before what it has seen, or with other files under a number that
it has seen, is refused.

An older epoch counts as before. A newer one is taken with a notice, since a store may have been restored on purpose.
"""

from __future__ import annotations

from ..errors import IntegrityError
from ..store.contract import Version
from ..store.epoch import epoch_ms
from ..text import plain


class Regression(IntegrityError):
    """The answer is from before what this node has seen, or from another history of the same number."""


def checked_generation(text: str | None, seen: Version | None) -> tuple[str | None, str]:
    """The generation that an answer names, and a notice for an operator ("" for none), when the newest generation that
    this node has seen is `seen`. Raises `Regression`; `IntegrityError` for text that does not decode."""
    if text is None:
        if seen is None:
            return None, ""
        return (
            None,
            f"the server names no generation, and this node has seen {seen}: is it another kind of server?",
        )
    try:
        got = Version.parse(text)
        age = (epoch_ms(got.epoch), got.epoch)
    except ValueError as error:
        raise IntegrityError(f"the generation {plain(text, 100)!r} is not <epoch>.<number>") from error
    if seen is None:
        return text, ""
    if got.epoch == seen.epoch:
        if got.revision < seen.revision:
            raise Regression(
                f"the server went back: it answers with generation {got}, this node has seen {seen}"
            )
        return text, ""
    if age < (epoch_ms(seen.epoch), seen.epoch):
        raise Regression(
            f"the server answers from an older epoch: with generation {got}, this node has seen {seen}"
        )
    return text, f"the server has begun a new epoch: {got}, after {seen}"


def refuse_contradiction(
    generation: str | None, digest: str, seen: Version | None, seen_digest: str | None
) -> None:
    """Raise `Regression` when `generation` has other files than it had before: one generation gives a node one set of
    files, for ever."""
    if generation is not None and seen_digest not in (None, digest) and Version.parse(generation) == seen:
        raise Regression(
            f"the server gives generation {generation} as {digest}, this node has seen the same generation as"
            f" {seen_digest}"
        )
