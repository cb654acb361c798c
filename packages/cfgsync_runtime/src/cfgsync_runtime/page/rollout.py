"""The section of a rollout: how far it is, and which nodes failed."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from cfgsync_core import FleetStatus
from cfgsync_core.wire import RolloutStatus

from .formatting import many, node_link, number, section
from .markup import Markup, el
from .node import MISSING_SHOWN

_BAR: Final = 1000


def rollout(status: FleetStatus) -> Markup:
    """How a change reaches the nodes that take turns."""
    found = status.rollout or RolloutStatus(state="idle", generation="")
    whole = max(found.of, 1)
    done = _BAR * found.through // whole
    moving = _BAR * (found.through + found.in_transition) // whole
    failed = [
        el("li", node_link(one.identifier), f": {one.reason}", " (left behind)" if one.left_behind else None)
        for one in found.failed[:MISSING_SHOWN]
    ]
    more = len(found.failed) - len(failed)
    return section(
        "rollout",
        el("h2", "Rollout ", el("small", f"generation {number(found.generation)}")),
        el(
            "p",
            el("b", found.head.partition(": ")[2], class_="words"),
            class_="bad" if found.state == "halted" else None,
        ),
        el(
            "svg",
            el("rect", width=_BAR, height=8, class_="rest"),
            el("rect", width=moving, height=8, class_="served"),
            el("rect", width=done, height=8, class_="applied"),
            viewBox=f"0 0 {_BAR} 8",
            preserveAspectRatio="none",
            class_="stripe",
            role="img",
            aria_label=f"{found.through} of {found.of} nodes through",
        ),
        el(
            "p",
            "In transition: ",
            [[", " if at else None, node_link(name)] for at, name in enumerate(found.on_it)],
        )
        if found.on_it
        else None,
        el("h3", f"Failed: {many(len(found.failed), 'node')}") if failed else None,
        el("ul", failed, el("li", f"and {more:,} more") if more > 0 else None) if failed else None,
        hidden=status.rollout is UNSET or (found.state == "idle" and not found.failed),
    )
