"""The values of the three fixtures: each call starts one more server or fleet, and all of them end with the test.

For a fixture of another scope use the context managers: `with serving_materializer(MyMaterializer()) as server: yield server`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, Unpack

from cfgsync_core import StoreRefused

from ..errors import InputError, MachineRefused
from .fleet import Fleet, Nodes
from .served import WAIT, Bundle, Files, Served, ServingOptions, serving_bundle, serving_materializer


class ServeBundle(Protocol):
    """The fixture `cfgsync_bundle`."""

    def __call__(self, bundle: Bundle, shared: Files = (), *, port: int = 0) -> Served:
        """See `serving_bundle`."""


class ServeMaterializer(Protocol):
    """The fixture `cfgsync_server`."""

    def __call__(self, materializer: object, **options: Unpack[ServingOptions]) -> Served:
        """See `serving_materializer`."""


class BootFleet(Protocol):
    """The fixture `cfgsync_fleet`."""

    def __call__(
        self,
        materializer: object,
        nodes: Nodes = 3,
        *,
        metadata: object | Callable[[str], object] = None,
        wait: float = WAIT,
        **options: Unpack[ServingOptions],
    ) -> Fleet:
        """A server of `materializer` (or a running server instead), and `nodes` that have booted from it."""


class Started(ExitStack):
    """Everything that one test has started. It ends in reverse order, even if one of them fails to end."""

    def bundle(self, bundle: Bundle, shared: Files = (), *, port: int = 0) -> Served:
        """A `ServeBundle`."""
        with _with_hint():
            return self.enter_context(serving_bundle(bundle, shared, port=port))

    def materializer(self, materializer: object, **options: Unpack[ServingOptions]) -> Served:
        """A `ServeMaterializer`."""
        with _with_hint():
            return self.enter_context(serving_materializer(materializer, **options))

    def fleets(self, directory: Callable[[], Path]) -> BootFleet:
        """A `BootFleet` whose fleets are each below a new `directory()`."""

        def boot(
            materializer: object,
            nodes: Nodes = 3,
            *,
            metadata: object | Callable[[str], object] = None,
            wait: float = WAIT,
            **options: Unpack[ServingOptions],
        ) -> Fleet:
            if isinstance(materializer, Served):
                server = materializer
            else:
                server = self.materializer(materializer, **options)
            __tracebackhide__ = True
            fleet = self.enter_context(Fleet(server, directory()))
            fleet.boot(nodes, metadata=metadata, wait=wait)
            return fleet

        return boot


@contextmanager
def _with_hint() -> Iterator[None]:
    """Show the hint of an error below its message."""
    try:
        yield
    except (InputError, MachineRefused, StoreRefused) as error:
        error.add_note(error.hint)
        raise
