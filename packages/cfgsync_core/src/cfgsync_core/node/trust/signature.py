"""The signature of an answer: the node's own check of it, and the text that is remembered with the files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ...errors import IntegrityError

Verify: TypeAlias = Callable[[str | None, str, str | None, str], int]
"""Checks the text of `Cfgsync-Signature` (None: the answer has no such header) for an identifier, a generation (None: of a static source)
and a digest, and returns a static source's signed revision, else 0. Raises `NotSigned`."""


class NotSigned(IntegrityError):
    """The files are not signed for this node with a key that it trusts. `hint` says what to do about it."""

    hint: str = "sign with a key that the node trusts: cfgsync serve --signing-key, or cfgsync bundle sign after each change of a bundle"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


_LONGEST: Final = 8192


def signed(
    text: str | None, verify: Verify | None, identifier: str, generation: str | None, digest: str
) -> tuple[str, int]:
    """The signature to remember, and the revision that it names. Without `verify` nothing is checked: a node that checks
    from its next start on can then use its cache. Raises `NotSigned`."""
    revision = 0 if verify is None else verify(text, identifier, generation, digest)
    return "" if text is None or len(text) > _LONGEST else text, revision
