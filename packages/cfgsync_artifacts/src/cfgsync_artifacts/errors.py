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


class DiskError(CfgsyncError):
    """The disk refuses: full, read-only, no permission, something else in the way. `hint` says what to do; what was
    there before is untouched unless the sentence says otherwise."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


class TargetBusy(DiskError):
    """Another writer holds the target directory."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"another writer is working in {directory}",
            "wait until it has finished, or give this one a directory of its own",
        )
        self.directory = directory


class TargetKept(TargetBusy):
    """Another keeper holds the target directory, and will for as long as it lives; `process` is its id where that is
    known."""

    def __init__(self, directory: str, process: int | None = None) -> None:
        who = "another watcher" + (f" (process {process})" if process is not None else "")
        DiskError.__init__(
            self,
            f"{who} keeps the files in {directory} in step",
            "give this node a directory of its own, or end that watcher first",
        )
        self.directory = directory
        self.process = process
