"""What every engine must do, as functions: each opens a store, acts, and asserts one promise of `RevisionedStore`.

A check is named after its promise. `CHECKS` are for every engine; there each call of `open_backend` opens an empty store.
`DURABLE_CHECKS` are for engines whose contents outlive their closing; there each call opens the same store. See
`docs/howto/engine.md`.
"""

from __future__ import annotations

from types import ModuleType

from . import administration, durable, expectations, groups, history, values
from .checked_reads import Check, OpenBackend


def _checks(*modules: ModuleType) -> tuple[Check, ...]:
    return tuple(
        check for module in modules for name, check in vars(module).items() if name.startswith("check_")
    )


CHECKS = _checks(values, expectations, history, groups, administration)
DURABLE_CHECKS = _checks(durable)

__all__ = ["CHECKS", "DURABLE_CHECKS", "Check", "OpenBackend"]
