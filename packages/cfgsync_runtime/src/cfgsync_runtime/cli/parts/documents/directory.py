"""The documents of an environment as files below a directory, `NAMESPACE/NAME.json`, each replaced whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cfgsync_artifacts import DiskError, replace_file
from cfgsync_core import InvalidRequest
from cfgsync_core.text import cause, plain
from cfgsync_documents import DocumentName, Scope
from cfgsync_documents.service import canonical

from ....errors import InputError
from ..messages import note
from .client import ScopeDocument
from .words import pretty

SUFFIX: Final = ".json"


class Directory:
    """The files of the documents of one namespace, or of all."""

    def __init__(self, path: str, namespace: str | None) -> None:
        self._path = Path(path)
        self._namespace = namespace

    def chosen(self, documents: Sequence[ScopeDocument]) -> dict[str, ScopeDocument]:
        """Those that belong here, by `namespace/name`."""
        return {one.key: one for one in documents if self._namespace in (None, one.namespace)}

    def write(self, documents: Mapping[str, ScopeDocument], before: Mapping[str, ScopeDocument]) -> list[str]:
        """Write what differs from `before`, and remove what only that has; the keys. Raises `DiskError`, `InputError`."""
        if self._path.exists() and not self._path.is_dir():
            raise InputError(f"{self._path} is no directory", "give a directory for the files, or a new name")
        changed = []
        for key, one in documents.items():
            text = pretty(one.content_json.encode()).encode()
            if key not in before or before[key].content_json != one.content_json:
                changed.append(key)
                if _held(self._file(key)) != text:
                    replace_file(str(self._file(key)), text, 0o644)
        for key in sorted(before.keys() - documents.keys()):
            changed.append(key)
            try:
                self._file(key).unlink(missing_ok=True)
            except OSError as error:
                raise DiskError(
                    f"{self._file(key)} cannot be removed: {cause(error)}", "make it writable"
                ) from error
        return changed

    def read(self) -> dict[str, str]:
        """The canonical JSON of each document by `namespace/name`. Raises `InputError`, which names the file."""
        found: dict[str, str] = {}
        try:
            files, others = self._sorted()
            if not self._path.is_dir():
                raise InputError(
                    f"{self._path} is no directory", "give what cfgsync config export has written"
                )
            for other in others:
                note(f"{plain(str(other), 500)} is skipped: documents are files NAMESPACE/NAME{SUFFIX}")
            for file in files:
                namespace, name = file.parent.name, file.name.removesuffix(SUFFIX)
                DocumentName.checked(Scope("-", "-"), namespace, name, field="name")
                found[f"{namespace}/{name}"] = canonical(file.read_bytes(), str(file)).decode()
        except OSError as error:
            raise InputError(f"{error.filename or self._path}: {cause(error)}", "make it readable") from error
        except InvalidRequest as error:
            raise InputError(
                f"{file}: {error}", "correct it, and run it again; nothing was written"
            ) from error
        return found

    def _sorted(self) -> tuple[list[Path], list[Path]]:
        """The files of documents, and what is beside them: hidden, of another kind, or elsewhere. A FIFO is never opened."""
        files: list[Path] = []
        others: list[Path] = []
        for folder in sorted(self._path.glob("*")):
            if folder.name.startswith(".") or not folder.is_dir():
                others.append(folder)
                continue
            for file in sorted(folder.iterdir()) if self._namespace in (None, folder.name) else ():
                is_one = file.suffix == SUFFIX and not file.name.startswith(".") and file.is_file()
                (files if is_one else others).append(file)
        return files, others

    def strangers(self, documents: Mapping[str, object]) -> list[str]:
        """The files that are of no document."""
        files = self._path.glob(f"*/*{SUFFIX}")
        keys = (f"{file.parent.name}/{file.name.removesuffix(SUFFIX)}" for file in files)
        return sorted(
            key for key in keys if key not in documents and self._namespace in (None, key.split("/")[0])
        )

    def _file(self, key: str) -> Path:
        namespace, _, name = key.partition("/")
        return self._path / namespace / f"{name}{SUFFIX}"


def _held(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (
        OSError
    ):  # absent, or what keeps it from being read keeps it from being written, which has the words
        return None
