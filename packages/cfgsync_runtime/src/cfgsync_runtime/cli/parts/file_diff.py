"""How files and their changes are printed: a line for each, and the text of what changed as a diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from cfgsync_adapter.status import FileChange, FileSummary, NodeChange
from cfgsync_core.text import plain

LINE: Final = 10_000
_SIGN: Final = {"added": "+", "removed": "-", "changed": "~"}


def file_line(file: FileSummary) -> str:
    """`0644      23  sha256-0123456789ab  /config.yaml`, and what is not to be shown."""
    note = f"  ({file.omitted})" if file.omitted else ""
    return f"  {plain(file.mode, 8)} {file.size:>9}  {plain(file.digest[:19])}  {plain(file.path, 200)}{note}"


def node_lines(changes: Iterable[NodeChange]) -> Iterator[str]:
    """Each node that changed, its files, and the text of those that may be shown."""
    for node in changes:
        name = plain(node.identifier)
        yield f"{_SIGN[node.change]} {name}"
        yield from change_lines(node.files, name)


def change_lines(changes: Iterable[FileChange], whose: str) -> Iterator[str]:
    """Each file that changed, and its text where it may be shown."""
    for change in changes:
        path = plain(change.path, 200)
        yield f"  {_SIGN[change.change]} {path}{_how(change)}"
        yield from _text(change, f"{whose}{'' if path.startswith('/') else '/'}{path}")


def _how(change: FileChange) -> str:
    before, after = change.before, change.after
    if before is None or after is None:
        only = before or after
        return "" if only is None else f"  {plain(only.mode, 8)}, {only.size} bytes{_omitted(only)}"
    modes = f"  mode {plain(before.mode, 8)} to {plain(after.mode, 8)}"
    mode = modes if before.mode != after.mode else ""
    if before.digest == after.digest:
        return mode
    return f"{mode}  {before.size} to {after.size} bytes{_omitted(before) or _omitted(after)}"


def _omitted(file: FileSummary) -> str:
    return f" ({file.omitted})" if file.omitted else ""


def _text(change: FileChange, name: str) -> Iterator[str]:
    before, after = change.before, change.after
    if (before is not None and before.content is None) or (after is not None and after.content is None):
        return
    old = "" if before is None else before.content or ""
    new = "" if after is None else after.content or ""
    if old == new:
        return
    lines = difflib.unified_diff(
        old.splitlines(),
        new.splitlines(),
        "/dev/null" if before is None else f"a/{name}",
        "/dev/null" if after is None else f"b/{name}",
        lineterm="",
    )
    for line in lines:
        yield "    " + line[:1] + _printable(line[1:])


def _printable(line: str) -> str:
    """A line of a file, with its spaces, that cannot move a terminal's cursor."""
    shown = "".join(c if c.isprintable() or c == "\t" else "?" for c in line[:LINE])
    return shown if len(line) <= LINE else shown + "…"
