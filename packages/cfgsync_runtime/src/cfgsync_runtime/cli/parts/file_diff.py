"""Files and their changes as lines: a line for each file, and changed text as a diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from cfgsync_adapter.status import FileChange, FileSummary, NodeChange, NodeContents
from cfgsync_core.text import counted, plain

LINE: Final = 10_000
_SIGN: Final = {"added": "+", "removed": "-", "changed": "~"}


def contents_lines(
    shared: Iterable[FileSummary], nodes: Iterable[NodeContents], with_text: bool = False
) -> Iterator[str]:
    """The shared files and each node's own, a line for each file; `with_text` adds the text of those that have it."""
    shared = tuple(shared)
    if shared:
        yield "shared files"
        yield from _file_lines(shared, with_text)
    for node in nodes:
        yield f"{plain(node.identifier)}{'  (replaced by an operator)' if node.replaced else ''}"
        yield from _file_lines(node.files, with_text)


def _file_lines(files: Iterable[FileSummary], with_text: bool) -> Iterator[str]:
    """`0644      23  sha256-0123456789ab  /config.yaml`, and why a content is not shown."""
    for file in files:
        head = f"  {plain(file.mode, 8)} {file.size:>9}  {plain(file.digest[:19])}  {plain(file.path, 200)}"
        yield f"{head} {_omitted(file)}" if file.omitted else head
        if with_text and file.content is not None:
            for text in file.content.splitlines():
                yield "    | " + "".join(c if c.isprintable() or c == "\t" else "?" for c in text)


def diff_lines(shared: Iterable[FileChange], nodes: Iterable[NodeChange]) -> Iterator[str]:
    """The shared files that changed, then each node that changed, with the text of the files that may be shown."""
    shared = tuple(shared)
    if shared:
        yield "shared files"
        yield from _change_lines(shared, "shared")
    for node in nodes:
        name = plain(node.identifier)
        yield f"{_SIGN[node.change]} {name}"
        yield from _change_lines(node.files, name)


def _change_lines(changes: Iterable[FileChange], owner: str) -> Iterator[str]:
    for change in changes:
        path = plain(change.path, 200)
        yield f"  {_SIGN[change.change]} {path}{_how(change)}"
        yield from _text(change, f"{owner}{'' if path.startswith('/') else '/'}{path}")


def _how(change: FileChange) -> str:
    before, after = change.before, change.after
    if before is None or after is None:
        only = before or after
        return (
            "" if only is None else f"  {plain(only.mode, 8)}, {counted(only.size, 'byte')}{_omitted(only)}"
        )
    modes = f"  mode {plain(before.mode, 8)} to {plain(after.mode, 8)}"
    mode = modes if before.mode != after.mode else ""
    if before.digest == after.digest:
        return mode
    return f"{mode}  {before.size} to {counted(after.size, 'byte')}{_omitted(before) or _omitted(after)}"


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
