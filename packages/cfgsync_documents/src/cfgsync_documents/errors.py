"""What a call of the documents cannot do; each error carries facts, and its surface chooses the status."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cfgsync_artifacts import CfgsyncError

from .document import DocumentName


class DocumentMissing(CfgsyncError):
    """No document has this name, or its history has no such revision."""

    def __init__(self, name: DocumentName, what: str = "not found") -> None:
        super().__init__(f"config document {what} ({name.described})")
        self.name = name


class DocumentConflict(CfgsyncError):
    """The document is at another revision than the caller expected (0: absent). Nothing was written."""

    def __init__(self, name: DocumentName, expected: int, found: int) -> None:
        super().__init__(
            f"config document version mismatch ({name.described}, expectedVersion={expected}, currentVersion={found})"
        )
        self.name = name
        self.expected = expected
        self.found = found


class Problem(msgspec.Struct, frozen=True):
    """What does not hold: a document's key (`""`: no certain one), a JSON pointer into it (`""`: the whole), and words."""

    document: str
    path: str
    message: str


class InvalidDocument(CfgsyncError):
    """A write that its schema, or the server's validator, does not permit. Nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"invalid document: {'; '.join(map(_said, problems))}")
        self.problems = tuple(problems)


class NotAnObject(CfgsyncError):
    """A merge needs a document that is a JSON object, and this one is another value."""

    def __init__(self, name: DocumentName) -> None:
        super().__init__(f"config document is not a JSON object ({name.described})")
        self.name = name


def _said(problem: Problem) -> str:
    place = f" at {problem.path}" if problem.path else ""
    return f"{problem.document}{place}: {problem.message}" if problem.document else problem.message
