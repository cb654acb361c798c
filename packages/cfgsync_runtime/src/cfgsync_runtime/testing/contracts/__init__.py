"""What every engine must do, as functions: each opens a store, acts, and asserts one promise of `RevisionedStore`.

`open_backend` opens an empty store each time it is called. A check is named after its promise; those with a number keep
that of the invariant in the design. `CHECKS` are for every engine. `DURABLE_CHECKS` are for those that outlive a process:
there each call of `open_backend` opens the same one.
"""

from __future__ import annotations

from types import ModuleType

from . import durable, expectations, groups, history, operating, values
from .asking import Check, OpenBackend


def _checks(*modules: ModuleType) -> tuple[Check, ...]:
    return tuple(
        check for module in modules for name, check in vars(module).items() if name.startswith("check_")
    )


CHECKS = _checks(values, expectations, history, groups, operating)
DURABLE_CHECKS = _checks(durable)

__all__ = ["CHECKS", "DURABLE_CHECKS", "Check", "OpenBackend"]
