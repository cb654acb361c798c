"""`cfgsync status --watch`: drawn again on a screen of its own, which is taken away at the end; off a terminal a block for
each change, with only the nodes that changed.

It looks every second, and more seldom at a fleet that takes long to tell: a tenth of its time at most goes into looking.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

import msgspec

from cfgsync_core import ServerUrl, plain

from .fleet_table import Page, ToldFleet, ToldNode, number, one, rows, state, summary
from .messages import NoAnswer, fail
from .server_client import ServerClient
from .terminal import fitted, is_live, size

EVERY: Final = 1.0
_SHARE: Final = 10
_OPEN, _CLOSE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""A terminal's second screen, without a cursor: the first one comes back as it was."""
_FIRST: Final = ("failed", "stranger", "registered", "waiting", "served", "applied")
"""Who is shown first where not all have room: whoever is in the way of the others."""

Block = list[str]


def watch(
    asking: ServerClient,
    at: ServerUrl,
    identifier: str | None,
    as_json: bool,
    *,
    every: float = EVERY,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show it until Ctrl-C or SIGTERM. Raises `NoAnswer` when the server does not answer the first time; afterwards a
    server that is away is a line, and is waited for."""
    if as_json or not is_live(sys.stdout):
        blocks = _json(asking, identifier) if as_json else _changes(asking, identifier)
        for block in _paced(blocks, every, sleep):
            if block:
                print("\n".join(block), flush=True)
        return
    last: Block = []
    drawn = _drawn(asking, at, identifier)
    try:
        with _terminated(), _screen(sys.stdout) as draw:
            for block in _paced(drawn, every, sleep):
                last = block
                draw(block)
    finally:
        if last:
            print("\n".join(last[2:]))  # what was seen last stays, without the line that says how to end it


def _paced(blocks: Iterator[Block], every: float, sleep: Callable[[float], None]) -> Iterator[Block]:
    while True:
        began = time.monotonic()
        yield next(blocks)
        sleep(max(every, _SHARE * (time.monotonic() - began)))


def _drawn(asking: ServerClient, at: ServerUrl, identifier: str | None) -> Iterator[Block]:
    """A screenful for each look."""
    shown: Callable[[Page, int], Block] | None = None
    while True:
        away = ""
        try:
            if identifier is None:
                shown = _fleet(*asking.fleet())
            else:
                shown = _node(asking.node(identifier))
        except NoAnswer as error:
            if shown is None:
                raise
            away = str(error)
        columns, height = size(sys.stdout)
        page = Page.of(sys.stdout)
        head = away or f"{at} at {time.strftime('%H:%M:%SZ', time.gmtime())}, Ctrl-C ends"
        title = fitted(plain(head, 1000), columns)
        yield [
            page.painted(title, "red" if away else "dim"),
            "",
            *shown(page, height - 2),
        ]


def _fleet(fleet: ToldFleet, nodes: Sequence[ToldNode]) -> Callable[[Page, int], Block]:
    def drawn(page: Page, height: int) -> Block:
        head = list(summary(fleet, page))
        room = height - len(head) - 2  # an empty line and the titles
        if not nodes or room < 1:
            return head[:height]
        if len(nodes) <= room:
            return [*head, "", *rows(nodes, page)]
        first = sorted(nodes, key=lambda node: _FIRST.index(state(node)))[: max(room - 1, 0)]
        more = f"… {len(nodes) - len(first)} more: cfgsync status"
        return [*head, "", *rows(first, page), fitted(more, page.width)]

    return drawn


def _node(node: ToldNode) -> Callable[[Page, int], Block]:
    return lambda page, height: list(one(node, page))[:height]


def _changes(asking: ServerClient, identifier: str | None) -> Iterator[Block]:
    """What changed since the last look: everything at first, then the head and the nodes that are not as they were. When
    a node was last seen is no change."""
    head: Block = []
    before: dict[str, tuple[object, ...]] | None = None
    away = ""
    page = Page()
    while True:
        try:
            if identifier is not None:
                node = asking.node(identifier)
                new_head = list(one(msgspec.structs.replace(node, last_seen=None), page))
                nodes: Sequence[ToldNode] = ()
                told = list(one(node, page))
            else:
                fleet, nodes = asking.fleet()
                new_head = told = list(summary(fleet, page))
        except NoAnswer as error:
            if before is None:
                raise
            yield [] if str(error) == away else [plain(str(error), 1000), ""]
            away = str(error)
            continue
        now = {node.identifier: _stands(node) for node in nodes}
        changed = [
            node for node in nodes if before is None or before.get(node.identifier) != now[node.identifier]
        ]
        gone = [name for name in before or () if name not in now]
        if before is None or away or new_head != head or changed or gone:
            left = [f"{fitted(plain(name), page.width - 9)} has left" for name in gone]
            yield [*told, *(["", *rows(changed, page)] if changed else []), *left, ""]
        else:
            yield []
        head, before, away = new_head, now, ""


def _stands(node: ToldNode) -> tuple[object, ...]:
    return state(node), number(node.served), number(node.applied), node.last_failure


def _json(asking: ServerClient, identifier: str | None) -> Iterator[Block]:
    """What the server says, in a line, whenever it is not what it said; a server that is away is said on stderr."""
    before: object = None
    away = ""
    while True:
        try:
            said = msgspec.json.decode(asking.body(identifier))
        except NoAnswer as error:
            if before is None:
                raise
            if str(error) != away:
                fail(error.code, str(error), "it is asked again until it answers")
            away = str(error)
            yield []
            continue
        now = _without_times(said)
        yield [] if now == before else [msgspec.json.encode(said).decode()]
        before, away = now, ""


def _without_times(said: object) -> object:
    if isinstance(said, dict):
        return {key: _without_times(value) for key, value in said.items() if key != "last_seen"}
    return [_without_times(value) for value in said] if isinstance(said, list) else said


@contextmanager
def _screen(stream: TextIO) -> Iterator[Callable[[Block], None]]:
    """The terminal's second screen, from its first row on; the first screen is back when it ends, however it ends."""

    def draw(block: Block) -> None:
        print("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in block[:-1]), end="", file=stream)
        print(f"{block[-1]}\x1b[K\x1b[J", end="", file=stream, flush=True)

    try:
        print(_OPEN, end="", file=stream, flush=True)
        yield draw
    finally:
        print(_CLOSE, end="", file=stream, flush=True)


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C does, with the terminal as it was."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
