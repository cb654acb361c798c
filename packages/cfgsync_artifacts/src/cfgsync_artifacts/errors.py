"""What can be wrong with files and sets of files, each error carrying the facts its reader needs."""

from __future__ import annotations


class CfgsyncError(Exception):
    """Base of every error that cfgsync raises on purpose. `str(error)` is one sentence for a person."""


class InvalidArtifact(CfgsyncError, ValueError):
    """A file that cannot be delivered: `path` names it, `why` says what is wrong."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"artifact {path!r}: {why}")
        self.path = path
        self.why = why


class DuplicatePath(CfgsyncError, ValueError):
    """Two files of one set have the same path; one would silently hide the other."""

    def __init__(self, path: str) -> None:
        super().__init__(f"duplicate artifact path `{path}`")
        self.path = path


class TargetBusy(CfgsyncError):
    """Another writer holds the target directory."""

    def __init__(self, directory: str) -> None:
        super().__init__(f"another writer is working in {directory}")
        self.directory = directory
