"""Every node as one cell: a block of data with the letter of its state, which the script draws."""

from __future__ import annotations

import msgspec

from .formatting import IN_BUNDLE, section, spelled
from .markup import Markup, el
from .scan import LETTERS, FleetScan


def grid_data(fleet: FleetScan, *, static: bool = False) -> bytes:
    """The fleet as JSON: for the grid, and for `Accept: application/json`."""
    return msgspec.json.encode(
        {
            "generation": fleet.status.generation,
            "state": fleet.status.state,
            "reason": fleet.status.reason,
            "counts": fleet.counts,
            "kinds": {letter: IN_BUNDLE if static else spelled(state) for state, letter in LETTERS.items()},
            "names": fleet.names,
            "states": fleet.letters,
        }
    )


def grid(fleet: FleetScan, static: bool) -> Markup:
    """The section; hidden until the script has drawn it."""
    # `<` alone could end the element; a block of data never runs
    data = Markup(grid_data(fleet, static=static).decode().replace("<", "\\u003c"))
    return section(
        "grid",
        el("h2", "Every node", el("span", id="find-place")),
        el("div", id="cells", role="group", aria_label="Every node; the arrow keys go from one to the next"),
        el("p", "Point at a node, or go there with the arrow keys.", id="about-cell", aria_live="polite"),
        el("script", data, type="application/json", id="cell-data"),
        hidden=True,
    )
