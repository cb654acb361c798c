"""Every node as one cell: a block of data with the letter of its state, which the script draws."""

from __future__ import annotations

import msgspec

from cfgsync_core.wire import NODE_STATES

from .formatting import section, spelled
from .markup import Markup, el
from .scan import FleetScan


def grid_data(fleet: FleetScan, find: str = "") -> bytes:
    """The fleet as JSON: for the grid, and for `Accept: application/json`. With `find`, `found` has a 1 for each node that
    matches it and a 0 for any other."""
    data: dict[str, object] = {
        "generation": fleet.status.generation,
        "state": fleet.status.state,
        "reason": fleet.status.reason,
        "counts": fleet.counts,
        "kinds": {facts.letter: spelled(state) for state, facts in NODE_STATES.items()},
        "names": fleet.names,
        "states": fleet.letters,
    }
    if find:
        data["find"] = find
        data["found"] = "".join("1" if find in text else "0" for text in fleet.texts)
    return msgspec.json.encode(data)


def grid(fleet: FleetScan, find: str) -> Markup:
    """The section; hidden until the script has drawn it."""
    # `<` alone could end the element; a block of data never runs
    data = Markup(grid_data(fleet, find).decode().replace("<", "\\u003c"))
    return section(
        "grid",
        el("h2", "Every node"),
        el("div", id="cells", role="group", aria_label="Every node; the arrow keys go from one to the next"),
        el("p", "Point at a node, or go there with the arrow keys.", id="about-cell", aria_live="polite"),
        el("script", data, type="application/json", id="cell-data"),
        hidden=True,
    )
