"""`cfgsync demo` at a terminal: below its steps, one table of the nodes' phases that is drawn again and again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...demo.progress import PHASES, Phase, ProgressCounts
from .terminal import fitted, has_colours

_COLOURS: Final[dict[Phase, str]] = {
    "not started": "dim",
    "to ask again": "dim",
    "registering": "magenta",
    "waiting": "yellow",
    "receiving": "cyan",
    "in place": "green",
}
_BAR: Final = 24
_WITH_BARS: Final = 64
"""The least width of a terminal, in columns, that shows bars."""
_GAP: Final = 2


class LiveDemo:
    """An audience at a terminal: `with LiveDemo(…) as audience: await boot(…, audience)`."""

    is_live = True

    def __init__(self, heading: str, count: int) -> None:
        self._heading = heading
        self._count = count
        self._seconds = 0.0
        self._progress: ProgressCounts | None = None
        self._console = Console(
            file=sys.stdout,
            force_terminal=True,
            color_system="standard" if has_colours(sys.stdout) else None,
            markup=False,
            emoji=False,
            highlight=False,
        )
        # drawn by `show`, without a thread of its own
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def step(self, seconds: float, text: str) -> None:
        self._seconds = seconds
        self._console.print(f"{seconds:6.2f} s  {text}", soft_wrap=True)  # above the table, and it stays

    def show(self, seconds: float, progress: ProgressCounts) -> None:
        self._seconds = seconds
        self._progress = progress
        self._draw()

    def ends(self, tree: Iterable[str]) -> None:
        self._live.stop()  # what was drawn last stays
        for line in ("", *tree, ""):
            print(line)

    def _draw(self) -> None:
        if (progress := self._progress) is None:
            return
        why = progress.why or f"ready: generation {progress.generation}"
        self._live.update(
            Group(
                Text(),
                _line(f"{self._heading}, {self._seconds:.1f} s", "bold"),
                Text(),
                _phases(progress, self._count, self._console.size.width),
                Text(),
                _line(why, "yellow" if progress.why else "green"),
            ),
            refresh=True,
        )


def _phases(progress: ProgressCounts, count: int, width: int) -> Table:
    """A line for each phase: the number of its nodes, a bar of that length, and their names."""
    again = bool(progress.phases["to ask again"])
    phases = [phase for phase in PHASES if phase != ("not started" if again else "to ask again")]
    widths = [max(map(len, PHASES)), len(str(count)), *([_BAR] if width >= _WITH_BARS else [])]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    for each in widths:
        table.add_column(no_wrap=True, width=each, justify="right" if each == widths[1] else "left")
    table.add_column(no_wrap=True)
    width_left = width - sum(widths) - _GAP * len(widths)
    for phase in phases:
        names = progress.phases[phase]
        filled = -(-len(names) * _BAR // count)  # a single node of many is to be seen, too
        bar = [Text("█" * filled, style=_COLOURS[phase])] if width >= _WITH_BARS else []
        style = _COLOURS[phase] if names else "dim"
        table.add_row(Text(phase, style=style), str(len(names)), *bar, named(names, width_left))
    return table


def named(names: Sequence[str], width: int) -> str:
    """As many of these as fit in so many columns, and how many more there are."""
    for shown in range(len(names), 0, -1):
        more = len(names) - shown
        text = ", ".join(names[:shown]) + (f" and {more} more" if more else "")
        if shown == 1 or len(text) <= width:
            return fitted(text, width)
    return ""


def _line(text: str, style: str = "") -> Text:
    """One line, cut where the terminal ends."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
