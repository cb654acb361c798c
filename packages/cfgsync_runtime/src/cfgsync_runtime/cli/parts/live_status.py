"""`cfgsync status --watch`: the status on a terminal's second screen, drawn again for each change; off a terminal, a block
of lines for each change, with only the nodes that changed.

It asks every second. It asks a slow server less often, so that at most a tenth of the time goes into client.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

import msgspec

from cfgsync_core import FleetStatus, NodeStatus
from cfgsync_core.text import plain
from cfgsync_core.wire import NODE_STATES

from .fleet_table import Page, number, one, rows, summary
from .messages import NoAnswer, fail
from .server_client import ServerClient
from .terminal import fitted, is_live, size

EVERY: Final = 1.0
_SHARE: Final = 10
_OPEN, _CLOSE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""A terminal's second screen, without a cursor: the first one comes back as it was."""
_ORDER: Final[dict[str, int]] = {state: place for place, state in enumerate(NODE_STATES)}
"""Where not all nodes fit, those that hold up the fleet come first; an unknown state comes before all."""

Block = list[str]


def watch(
    client: ServerClient,
    identifier: str | None,
    as_json: bool,
    *,
    every: float = EVERY,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the status until Ctrl-C or SIGTERM. Raises `NoAnswer` when the server does not answer the first time; later a
    lost server is one line, and the command goes on client."""
    if as_json or not is_live(sys.stdout):
        blocks = _json(client, identifier) if as_json else _changes(client, identifier)
        for block in _paced(blocks, every, sleep):
            if block:
                print("\n".join(block), flush=True)
        return
    last: Block = []
    drawn = _drawn(client, identifier)
    try:
        with _terminated(), _screen(sys.stdout) as draw:
            for block in _paced(drawn, every, sleep):
                last = block
                draw(block)
    finally:
        if last:
            print("\n".join(last[2:]))  # the last status stays on the screen, without its first line


def _paced(blocks: Iterator[Block], every: float, sleep: Callable[[float], None]) -> Iterator[Block]:
    while True:
        began = time.monotonic()
        yield next(blocks)
        sleep(max(every, _SHARE * (time.monotonic() - began)))


def _drawn(client: ServerClient, identifier: str | None) -> Iterator[Block]:
    """One screen of lines for each answer."""
    shown: Callable[[Page, int], Block] | None = None
    while True:
        away = ""
        try:
            if identifier is None:
                shown = _fleet(*client.fleet())
            else:
                shown = _node(client.node(identifier))
        except NoAnswer as error:
            if shown is None:
                raise
            away = str(error)
        columns, height = size(sys.stdout)
        page = Page.of(sys.stdout)
        head = away or f"{client.at} at {time.strftime('%H:%M:%SZ', time.gmtime())}, Ctrl-C ends"
        title = fitted(plain(head, 1000), columns)
        yield [
            page.painted(title, "red" if away else "dim"),
            "",
            *shown(page, height - 2),
        ]


def _fleet(fleet: FleetStatus, nodes: Sequence[NodeStatus]) -> Callable[[Page, int], Block]:
    def drawn(page: Page, height: int) -> Block:
        head = list(summary(fleet, page))
        space = height - len(head) - 2  # an empty line and the titles
        if not nodes or space < 1:
            return head[:height]
        if len(nodes) <= space:
            return [*head, "", *rows(nodes, page)]
        first = sorted(nodes, key=_urgency)[: max(space - 1, 0)]
        more = f"… {len(nodes) - len(first)} more: cfgsync status"
        return [*head, "", *rows(first, page), fitted(more, page.width)]

    return drawn


def _urgency(node: NodeStatus) -> int:
    return _ORDER.get(node.state, -1)


def _node(node: NodeStatus) -> Callable[[Page, int], Block]:
    return lambda page, height: list(one(node, page))[:height]


def _changes(client: ServerClient, identifier: str | None) -> Iterator[Block]:
    """What changed since the last answer: everything at first, then the head and the nodes that changed. A newer
    `last_seen` alone is no change."""
    head: Block = []
    before: dict[str, tuple[object, ...]] | None = None
    away = ""
    page = Page()
    while True:
        try:
            if identifier is not None:
                node = client.node(identifier)
                new_head = list(one(msgspec.structs.replace(node, last_seen=None), page))
                nodes: Sequence[NodeStatus] = ()
                lines = list(one(node, page))
            else:
                fleet, nodes = client.fleet()
                new_head = lines = list(summary(fleet, page))
        except NoAnswer as error:
            if before is None:
                raise
            yield [] if str(error) == away else [plain(str(error), 1000), ""]
            away = str(error)
            continue
        now = {node.identifier: _shown(node) for node in nodes}
        changed = [
            node for node in nodes if before is None or before.get(node.identifier) != now[node.identifier]
        ]
        gone = [name for name in before or () if name not in now]
        if before is None or away or new_head != head or changed or gone:
            left = [f"{fitted(plain(name), page.width - 9)} has left" for name in gone]
            yield [*lines, *(["", *rows(changed, page)] if changed else []), *left, ""]
        else:
            yield []
        head, before, away = new_head, now, ""


def _shown(node: NodeStatus) -> tuple[object, ...]:
    marks = node.drifted or (), bool(node.overdue)
    return node.state, number(node.served), number(node.applied), node.last_failure, *marks


def _json(client: ServerClient, identifier: str | None) -> Iterator[Block]:
    """The server's answer in one line whenever it has changed; a lost server is reported on stderr."""
    before: object = None
    away = ""
    while True:
        try:
            status = msgspec.json.decode(client.body(identifier))
        except NoAnswer as error:
            if before is None:
                raise
            if str(error) != away:
                fail(error.code, str(error), "the command tries again until it answers")
            away = str(error)
            yield []
            continue
        now = _without_times(status)
        yield [] if now == before else [msgspec.json.encode(status).decode()]
        before, away = now, ""


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: _without_times(inner) for key, inner in value.items() if key not in ("last_seen", "overdue")
        }
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


@contextmanager
def _screen(stream: TextIO) -> Iterator[Callable[[Block], None]]:
    """The terminal's second screen, from its first line on; the first screen comes back at the end, whatever ends it."""

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
    """SIGTERM ends the command as Ctrl-C does, and leaves the terminal as it was."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
