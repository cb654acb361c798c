"""What a generation gives each node, for an operator: sizes and digests, contents on request, secrets never.

A fleet comes in pages, in the order of names, and a page ends when it is large enough for one answer. The functions block
while they hash: call them in a thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

from cfgsync_core import NodeArtifactsPayload
from cfgsync_core.text import rfc3339
from cfgsync_core.wire import RawFile

from ..generations.generation import Generation, Head, Prepared
from ..generations.publisher import Publisher

PAGE_NODES = 1_000
PAGE_BYTES = 4 * 1024 * 1024
SHOWN_BYTES = 256 * 1024
"""Of a longer content, only size and digest are shown."""

Change: TypeAlias = Literal["added", "removed", "changed"]


class FileSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file. `digest` is `sha256-<hex>` of its content; where `content` is absent, `omitted` may say why. A file that
    only its owner may read (its mode lets neither group nor others read it) is a secret."""

    path: str
    size: int
    mode: str
    digest: str
    content: str | None = None
    omitted: Literal["secret", "binary", "large"] | None = None


class NodeContents(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's own files; `replaced` when an operator gave them. `digest` covers the shared files too."""

    identifier: str
    digest: str
    files: tuple[FileSummary, ...]
    replaced: bool = False


class GenerationSummary(msgspec.Struct, frozen=True):
    """What a generation was made from, and when (RFC 3339, None when it is not known). `nodes` counts its nodes, and
    `contents` says whether its files are still held. Both versions are `<epoch>.<revision>`."""

    generation: str
    number: int
    at: str | None
    claim: int
    registrations: str
    replacements: str | None
    nodes: int
    replaced: tuple[str, ...]
    contents: bool


class GenerationPage(msgspec.Struct, frozen=True):
    """Some nodes of one generation. `shared` is on the first page; `next` is the `after` of the next page."""

    generation: GenerationSummary | None
    shared: tuple[FileSummary, ...]
    nodes: tuple[NodeContents, ...]
    next: str | None


class FileChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that differs."""

    path: str
    change: Change
    before: FileSummary | None = None
    after: FileSummary | None = None


class NodeChange(msgspec.Struct, frozen=True):
    """A node that is new, gone, or has other files of its own than before."""

    identifier: str
    change: Change
    files: tuple[FileChange, ...]


class DiffPage(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """What differs between two generations. `shared` is on the first page."""

    before: GenerationSummary
    after: GenerationSummary
    shared: tuple[FileChange, ...]
    nodes: tuple[NodeChange, ...]
    next: str | None


def summarize_head(head: Head, epoch: str, *, contents: bool) -> GenerationSummary:
    """The summary of a generation from its head alone."""
    replacements = head.source.replacements
    return GenerationSummary(
        f"{epoch}.{head.number}",
        head.number,
        rfc3339(head.at_ms // 1000) if head.at_ms else None,
        head.source.claim,
        str(head.source.registrations),
        None if replacements is None else str(replacements),
        head.nodes,
        head.replaced,
        contents,
    )


def summarize(generation: Generation) -> GenerationSummary:
    """The summary of a generation whose files are held."""
    head = msgspec.structs.replace(generation.head, nodes=len(generation.nodes))
    return summarize_head(head, generation.text.rpartition(".")[0], contents=True)


def generation_summaries(publisher: Publisher) -> list[GenerationSummary]:
    """The generations whose heads are held, newest first; the current and the previous one have contents."""
    current = publisher.current
    if current is None:
        return []
    epoch = current.text.rpartition(".")[0]
    return [
        summarize_head(head, epoch, contents=publisher.numbered(head.number) is not None)
        for head in publisher.heads()
    ]


def generation_page(
    generation: Generation, *, after: str = "", limit: int = PAGE_NODES, contents: bool = False
) -> GenerationPage:
    """The next nodes of a generation, after identifier `after`."""
    budget = _Budget()
    first = next(iter(generation.nodes.values()), None)
    shared = () if after or first is None else file_summaries(first.shared, contents, budget)
    names = sorted(generation.nodes)
    nodes: list[NodeContents] = []
    for at in range(bisect_right(names, after) if after else 0, len(names)):
        if len(nodes) >= limit or budget.is_spent:
            return GenerationPage(summarize(generation), shared, tuple(nodes), names[at - 1])
        name = names[at]
        payload = generation.nodes[name]
        files = file_summaries(payload.local, contents, budget)
        nodes.append(NodeContents(name, payload.digest, files, name in generation.replaced))
    return GenerationPage(summarize(generation), shared, tuple(nodes), None)


def node_contents(
    generation: Generation, identifier: str, *, contents: bool = False
) -> tuple[NodeContents, tuple[FileSummary, ...]] | None:
    """One node of a generation, and the files that all nodes share; None when the node is not in it."""
    payload = generation.nodes.get(identifier)
    if payload is None:
        return None
    budget = _Budget()
    files = file_summaries(payload.local, contents, budget)
    shared = file_summaries(payload.shared, contents, budget)
    return NodeContents(identifier, payload.digest, files, identifier in generation.replaced), shared


def prepared_contents(prepared: Prepared) -> tuple[tuple[FileSummary, ...], Iterator[NodeContents]]:
    """The shared files and every node of artifacts that are not published, with contents."""
    first = next(iter(prepared.nodes.values()), None)
    shared = () if first is None else file_summaries(first.shared, True, _Budget(None))
    nodes = (
        NodeContents(name, payload.digest, file_summaries(payload.local, True, _Budget(None)))
        for name, payload in sorted(prepared.nodes.items())
    )
    return shared, nodes


def difference_page(
    before: Generation, after: Generation, *, since: str = "", limit: int = PAGE_NODES
) -> DiffPage:
    """What differs between two generations; of the nodes, those after identifier `since`."""
    budget = _Budget()
    heads = summarize(before), summarize(after)
    shared: tuple[FileChange, ...] = ()
    if not since:
        old, new = (_shared(one.nodes) for one in (before, after))
        if old != new:
            shared = changes_of(file_summaries(old, True, budget), file_summaries(new, True, budget))
    nodes: list[NodeChange] = []
    names = sorted(before.nodes.keys() | after.nodes.keys())
    for at in range(bisect_right(names, since) if since else 0, len(names)):
        name = names[at]
        own, others = _own(before.nodes.get(name)), _own(after.nodes.get(name))
        if own == others:
            continue
        if len(nodes) >= limit or budget.is_spent:
            return DiffPage(*heads, shared, tuple(nodes), names[at - 1])
        files = changes_of(
            file_summaries(own or b"", True, budget), file_summaries(others or b"", True, budget)
        )
        nodes.append(NodeChange(name, _change(own, others), files))
    return DiffPage(*heads, shared, tuple(nodes), None)


def changes_of(before: Iterable[FileSummary], after: Iterable[FileSummary]) -> tuple[FileChange, ...]:
    """What differs between two sets of files, by path."""
    old, new = ({file.path: file for file in files} for files in (before, after))
    found = []
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one is None or other is None or (one.digest, one.mode) != (other.digest, other.mode):
            found.append(FileChange(path, _change(one, other), one, other))
    return tuple(found)


def file_summaries(encoded: bytes, contents: bool, budget: _Budget) -> tuple[FileSummary, ...]:
    """The files in what `encode_files` encoded."""
    return tuple(_file(file, contents, budget) for file in NodeArtifactsPayload(encoded, b"", "").raw_files())


def is_secret(mode: str) -> bool:
    """True for a mode with which only the owner may read."""
    return not int(mode, 8) & 0o044


class _Budget:
    """The bytes that one page may still take; None is without a limit."""

    def __init__(self, left: int | None = PAGE_BYTES) -> None:
        self._left = left

    @property
    def is_spent(self) -> bool:
        """True when there may be too little space left for the content of the next file."""
        return self._left is not None and self._left < SHOWN_BYTES

    def allows(self, size: int) -> bool:
        return self._left is None or size <= self._left

    def take(self, size: int) -> None:
        if self._left is not None:
            self._left -= size


def _file(file: RawFile, contents: bool, budget: _Budget) -> FileSummary:
    size, digest = len(file.data), "sha256-" + sha256(file.data).hexdigest()
    budget.take(len(file.path) + 140)
    if is_secret(file.mode):
        return FileSummary(file.path, size, file.mode, digest, omitted="secret")
    if not contents:
        return FileSummary(file.path, size, file.mode, digest)
    if size > SHOWN_BYTES or not budget.allows(size):
        return FileSummary(file.path, size, file.mode, digest, omitted="large")
    try:
        text = file.data.decode()
    except UnicodeDecodeError:
        return FileSummary(file.path, size, file.mode, digest, omitted="binary")
    budget.take(size)
    return FileSummary(file.path, size, file.mode, digest, text)


def _change(before: object, after: object) -> Change:
    return "added" if before is None else "removed" if after is None else "changed"


def _own(payload: NodeArtifactsPayload | None) -> bytes | None:
    return None if payload is None else payload.local


def _shared(nodes: Mapping[str, NodeArtifactsPayload]) -> bytes:
    first = next(iter(nodes.values()), None)
    return b"" if first is None else first.shared
