"""The sink receives exactly what is served: after the compare-and-set, at least once, also after a crash.

It delays no answer to a node. A sink that fails is tried again, and `/status` shows the failure.
"""

from __future__ import annotations

import asyncio
import inspect
import logging

from cfgsync_core.log_events import event
from cfgsync_core.text import plain

from ..application.failure import raised_at, sentence
from ..application.materializer import MaterializedArtifactsSink
from .publisher import Publisher

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

log = logging.getLogger("cfgsync")


class Delivery:
    """Gives each current generation to `sink`. Call `start()`, then `changed()` when a generation may be new. `failure` is
    for everyone: with `expose_errors` it has the sink's words."""

    def __init__(
        self, sink: MaterializedArtifactsSink, publisher: Publisher, expose_errors: bool = False
    ) -> None:
        self._sink = sink
        self._publisher = publisher
        self._expose_errors = expose_errors
        self._wake = asyncio.Event()
        self.failure = ""

    def start(self) -> asyncio.Task[None]:
        """Returns the task that delivers."""
        return asyncio.create_task(self._deliver_for_ever(), name="cfgsync-delivery")

    def changed(self) -> None:
        """There may be a new generation."""
        self._wake.set()

    async def _deliver_for_ever(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            generation = self._publisher.current
            if generation is None or generation.text == self._publisher.last_delivered:
                await self._wake.wait()
                continue
            try:
                done = await asyncio.to_thread(self._sink.persist, generation.artifacts())
                if inspect.isawaitable(done):
                    await done
                await self._publisher.delivered(generation)
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                words, at = sentence(error), raised_at(error)
                self.failure = f"the sink failed: {words if self._expose_errors or not at else at}"
                log.warning(
                    "generation %s: the sink failed: %s%s",
                    generation.number,
                    plain(words),
                    f" ({plain(at)})" if at else "",
                    extra=event("sink_failed", generation=generation.text),
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self.failure, pause = "", FIRST_PAUSE
