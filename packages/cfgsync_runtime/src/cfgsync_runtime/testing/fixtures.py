"""The fixtures: each call starts one more server or fleet, and all of them end with the test, in reverse order.

For a fixture of another scope use the context managers: `with serving_materializer(MyMaterializer()) as server: yield server`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Unpack

from .fleet import Fleet, Nodes
from .served import WAIT, Bundle, Files, Served, ServingOptions, serving_bundle, serving_materializer
from .served_documents import ServedDocuments, serving_config


class ServeBundle:
    """The fixture `cfgsync_bundle`. `started` ends what it starts."""

    def __init__(self, started: ExitStack) -> None:
        self._started = started

    def __call__(self, bundle: Bundle, shared: Files = (), *, port: int = 0) -> Served:
        """See `serving_bundle`."""
        return self._started.enter_context(serving_bundle(bundle, shared, port=port))


class ServeMaterializer:
    """The fixture `cfgsync_server`. `started` ends what it starts."""

    def __init__(self, started: ExitStack) -> None:
        self._started = started

    def __call__(
        self,
        materializer: object,
        documents: Mapping[str, object] | None = None,
        **options: Unpack[ServingOptions],
    ) -> Served:
        """See `serving_materializer`."""
        return self._started.enter_context(serving_materializer(materializer, documents, **options))


class ServeDocuments:
    """The fixture `cfgsync_documents`. `started` ends what it starts."""

    def __init__(self, started: ExitStack) -> None:
        self._started = started

    def __call__(
        self, documents: Mapping[str, object] | None = None, *, app: str = "default", env: str = "default"
    ) -> ServedDocuments:
        """See `serving_config`."""
        return self._started.enter_context(serving_config(documents, app=app, env=env))


class BootFleet:
    """The fixture `cfgsync_fleet`. `started` ends what it starts; each fleet is below a new `directory()`."""

    def __init__(self, started: ExitStack, directory: Callable[[], Path]) -> None:
        self._started = started
        self._directory = directory

    def __call__(
        self,
        materializer: object,
        nodes: Nodes = 3,
        *,
        metadata: object | Callable[[str], object] = None,
        wait: float = WAIT,
        documents: Mapping[str, object] | None = None,
        **options: Unpack[ServingOptions],
    ) -> Fleet:
        """A server of `materializer` (or a running server instead), and `nodes` that have booted from it."""
        if isinstance(materializer, Served):
            server = materializer
        else:
            server = ServeMaterializer(self._started)(materializer, documents, **options)
        __tracebackhide__ = True
        fleet = self._started.enter_context(Fleet(server, self._directory()))
        fleet.boot(nodes, metadata=metadata, wait=wait)
        return fleet
