"""What a generation gives each node, for an operator: sizes and digests, contents on request, secrets never.

A page has nodes in the order of their names, as many as fit into one answer. The functions hash: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from math import inf
from typing import Literal, TypeAlias, TypeVar

import msgspec

from cfgsync_core import NodeArtifactsPayload
from cfgsync_core.text import rfc3339
from cfgsync_core.wire import MAX_PAGE_NODES, RawFile

from ..generations.generation import Generation, Head, Prepared, shared_part
from ..generations.publisher import Publisher
from ..rollout.turns import Turns

PAGE_BYTES = 4 * 1024 * 1024
SHOWN_BYTES = 256 * 1024
"""A longer file is shown by its size and digest only."""

T = TypeVar("T")

Change: TypeAlias = Literal["added", "removed", "changed"]


class FileSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file. `digest` is `sha256-<hex>` of its content; `omitted` is the reason when `content` was requested and is absent. A file that
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
    """What a generation was made from, and when (RFC 3339, None when it is not known). `nodes` is a count; `contents`:
    the server still has its files. The versions are `<epoch>.<revision>`. `outcome`: how its rollout ended (`rolled out`,
    `halted`, `reverted by 14`), `""` while it has not, or when no node takes turns."""

    generation: str
    number: int
    at: str | None
    claim: int
    registrations: str
    replacements: str | None
    nodes: int
    replaced: tuple[str, ...]
    contents: bool
    documents: str | None = None
    outcome: str = ""

    @property
    def made_from(self) -> str:
        """`registrations 40 and documents 7`: the revision of each bucket that the run has read; they are no joint cut."""
        documents = "" if self.documents is None else f" and documents {self.documents.rpartition('.')[2]}"
        return f"registrations {self.registrations.rpartition('.')[2]}{documents}"


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
    """A node that is new or gone, or whose own files differ."""

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


def _summarize(head: Head, epoch: str, *, contents: bool) -> GenerationSummary:
    replacements, documents = head.source.replacements, head.source.documents
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
        None if documents is None else str(documents),
    )


def summarize(generation: Generation) -> GenerationSummary:
    """The summary of a generation that is in memory."""
    return _summarize(generation.head, generation.text.rpartition(".")[0], contents=True)


def generation_summaries(publisher: Publisher, turns: Turns) -> list[GenerationSummary]:
    """The generations that the store still names, newest first; the current, the previous and the stable one have contents."""
    current = publisher.current
    if current is None:
        return []
    epoch = current.text.rpartition(".")[0]
    return [
        msgspec.structs.replace(
            _summarize(head, epoch, contents=publisher.numbered(head.number) is not None),
            outcome=turns.outcome_of(head.number),
        )
        for head in publisher.heads()
    ]


def generation_page(
    generation: Generation, *, after: str = "", limit: int = MAX_PAGE_NODES, contents: bool = False
) -> GenerationPage:
    """The next nodes of a generation, after identifier `after`."""
    budget = _Budget()
    shared = () if after else _files(shared_part(generation.nodes), contents, budget)

    def node(name: str) -> NodeContents:
        payload = generation.nodes[name]
        files = _files(payload.local, contents, budget)
        return NodeContents(name, payload.digest, files, name in generation.replaced)

    names = sorted(name for name in generation.nodes if name > after)
    return GenerationPage(summarize(generation), shared, *_page(names, node, limit, budget))


def node_contents(
    identifier: str, payload: NodeArtifactsPayload, *, replaced: bool = False, contents: bool = False
) -> tuple[NodeContents, tuple[FileSummary, ...]]:
    """The files that one node is given, and those of them that all nodes share."""
    budget = _Budget()
    files = _files(payload.local, contents, budget)
    shared = _files(payload.shared, contents, budget)
    return NodeContents(identifier, payload.digest, files, replaced), shared


def prepared_contents(prepared: Prepared) -> tuple[tuple[FileSummary, ...], Iterator[NodeContents]]:
    """The shared files and every node of artifacts that are not published, with contents."""
    nodes = (
        NodeContents(name, payload.digest, _files(payload.local, True, _Budget(inf)))
        for name, payload in sorted(prepared.nodes.items())
    )
    return _files(shared_part(prepared.nodes), True, _Budget(inf)), nodes


def difference_page(
    before: Generation, after: Generation, *, since: str = "", limit: int = MAX_PAGE_NODES
) -> DiffPage:
    """What differs between two generations, for the nodes after identifier `since`."""
    budget = _Budget()
    heads = summarize(before), summarize(after)
    shared = () if since else _changes(shared_part(before.nodes), shared_part(after.nodes), budget)

    def own(generation: Generation, name: str) -> bytes | None:
        payload = generation.nodes.get(name)
        return None if payload is None else payload.local

    def node(name: str) -> NodeChange:
        old, new = own(before, name), own(after, name)
        return NodeChange(name, _change(old, new), _changes(old or b"", new or b"", budget))

    later = {name for name in before.nodes.keys() | after.nodes.keys() if name > since}
    names = sorted(name for name in later if own(before, name) != own(after, name))
    return DiffPage(*heads, shared, *_page(names, node, limit, budget))


def changes_of(before: Iterable[FileSummary], after: Iterable[FileSummary]) -> tuple[FileChange, ...]:
    """What differs between two sets of files, by path."""
    old, new = ({file.path: file for file in files} for files in (before, after))
    found = []
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one is None or other is None or (one.digest, one.mode) != (other.digest, other.mode):
            found.append(FileChange(path, _change(one, other), one, other))
    return tuple(found)


class _Budget(msgspec.Struct):
    """The bytes that one page may still take."""

    left: float = PAGE_BYTES

    @property
    def is_spent(self) -> bool:
        """True when the content of the next file may not fit."""
        return self.left < SHOWN_BYTES


def _page(
    names: Sequence[str], made: Callable[[str], T], limit: int, budget: _Budget
) -> tuple[tuple[T, ...], str | None]:
    """What `made` returns for the first of these names, at least for one, and the last of them if there are more."""
    page: list[T] = []
    for name in names:
        if page and (len(page) >= limit or budget.is_spent):
            return tuple(page), names[len(page) - 1]
        page.append(made(name))
    return tuple(page), None


def _changes(before: bytes, after: bytes, budget: _Budget) -> tuple[FileChange, ...]:
    if before == after:
        return ()
    return changes_of(_files(before, True, budget), _files(after, True, budget))


def _files(encoded: bytes, contents: bool, budget: _Budget) -> tuple[FileSummary, ...]:
    return tuple(_file(file, contents, budget) for file in NodeArtifactsPayload(encoded, b"", "").raw_files())


def _file(file: RawFile, contents: bool, budget: _Budget) -> FileSummary:
    size, text = len(file.data), None
    omitted: Literal["secret", "binary", "large"] | None = None
    budget.left -= len(file.path) + 140
    if not int(file.mode, 8) & 0o044:
        omitted = "secret"
    elif contents and (size > SHOWN_BYTES or size > budget.left):
        omitted = "large"
    elif contents:
        try:
            text = file.data.decode()
            budget.left -= size
        except UnicodeDecodeError:
            omitted = "binary"
    digest = f"sha256-{sha256(file.data).hexdigest()}"
    return FileSummary(file.path, size, file.mode, digest, text, omitted)


def _change(before: object, after: object) -> Change:
    return "added" if before is None else "removed" if after is None else "changed"
