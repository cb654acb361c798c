"""The errors of files and sets of files; each carries the facts that its reader needs."""

from __future__ import annotations


class CfgsyncError(Exception):
    """The base of every error that cfgsync raises on purpose. `str(error)` is one sentence for a person."""

    @property
    def for_others(self) -> str:
        """The sentence as a node acknowledges it: everyone with access to the server's `/status` may read it."""
        return str(self)


class InvalidArtifact(CfgsyncError, ValueError):
    """A file that cannot be delivered: `path` names it, `why` says what is wrong."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"artifact {path!r}: {why}")
        self.path = path
        self.why = why


class DuplicatePath(CfgsyncError, ValueError):
    """Two files of one set have the same path; one would silently hide the other. `where` says whose files they are."""

    def __init__(self, path: str, where: str = "") -> None:
        super().__init__(f"duplicate artifact path `{path}`{where and f': {where}'}")
        self.path = path


class DiskError(CfgsyncError):
    """The disk refuses: it is full or read-only, permission is missing, something else is in the way. `hint` says what
    to do. The files that were there are unchanged unless the sentence says otherwise."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


class TargetBusy(DiskError):
    """Another writer holds the target directory; `process` is its id where that is known."""

    def __init__(self, directory: str, process: int | None = None) -> None:
        what = f"another writer{_known(process)} is working in {directory}"
        super().__init__(what, "wait until it has finished, or give this one a directory of its own")
        self.directory = directory
        self.process = process


class TargetKept(TargetBusy):
    """Another watcher holds the target directory until it ends."""

    def __init__(self, directory: str, process: int | None = None) -> None:
        what = f"another watcher{_known(process)} keeps the files in {directory} in step"
        DiskError.__init__(self, what, "give this node a directory of its own, or end that watcher first")
        self.directory = directory
        self.process = process


def _known(process: int | None) -> str:
    return "" if process is None else f" (process {process})"
