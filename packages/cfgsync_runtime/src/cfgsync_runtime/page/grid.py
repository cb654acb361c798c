"""Every node as one cell: a letter for each, in a block of data that the script draws."""

from __future__ import annotations

import msgspec

from .markup import Markup, el
from .survey import KINDS, Fleet
from .words import IN_BUNDLE


def words_of(fleet: Fleet, *, static: bool = False) -> bytes:
    """The fleet as JSON: what the grid is drawn from, and what `Accept: application/json` is answered."""
    return msgspec.json.encode(
        {
            "generation": fleet.head.generation,
            "reason": fleet.head.reason,
            "counts": fleet.counts,
            "kinds": {kind[0]: IN_BUNDLE if static else kind for kind in KINDS},
            "names": fleet.names,
            "states": fleet.states,
        }
    )


def grid(fleet: Fleet, static: bool) -> Markup:
    """The section; hidden until the script has drawn it."""
    # `<` alone could end the element; a block of data is never run
    words = Markup(words_of(fleet, static=static).decode().replace("<", "\\u003c"))
    return el(
        "section",
        el("h2", "Every node", el("span", id="find-place")),
        el("div", id="cells", role="group", aria_label="Every node; the arrow keys go from one to the next"),
        el("p", "Point at a node, or go there with the arrow keys.", id="about-cell", aria_live="polite"),
        el("script", words, type="application/json", id="cell-words"),
        id="grid",
        class_="card",
        hidden=True,
    )
