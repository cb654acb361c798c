"""`ConfigManager` for a program without an event loop: the manager runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from cfgsync_core.follow import INTERVAL

from .definition import (
    ConfigDefinition,
    ConfigRegistrationResult,
    ConfigStartupMode,
    ConfigStatus,
    ConfigUpdate,
)
from .expiry import MAX_RESULTS, Key, Result, ResultCache
from .manager import ConfigManager
from .scope_view import SubscribeToScope

T = TypeVar("T")


class BlockingConfigManager:
    """`with BlockingConfigManager.connect(url) as manager:`; each method does what that of `ConfigManager` does.

    Callbacks are called in the manager's thread, one at a time: a callback that takes long delays the next value, and must
    not register.
    """

    def __init__(self, manager: ConfigManager) -> None:
        self._manager = manager
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="cfgsync-documents", daemon=True)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        token_file: str | None = None,
        ca_file: str | None = None,
        ca_hash: str | None = None,
        hints: SubscribeToScope | None = None,
        cache_dir: str | None = None,
        interval: float = INTERVAL,
    ) -> Self:
        """See `ConfigManager.connect`."""
        manager = ConfigManager.connect(
            url,
            token_file=token_file,
            ca_file=ca_file,
            ca_hash=ca_hash,
            hints=hints,
            cache_dir=cache_dir,
            interval=interval,
        )
        return cls(manager)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result()
        return self

    def __exit__(self, *error: object) -> None:
        self._started.result().call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def register(
        self,
        definition: ConfigDefinition[T],
        *,
        app: str,
        env: str,
        startup_mode: ConfigStartupMode = ConfigStartupMode.FAIL_CLOSED,
        timeout: float | None = None,
    ) -> ConfigRegistrationResult:
        """See `ConfigManager.register`."""
        return self._wait(
            self._manager.register(definition, app=app, env=env, startup_mode=startup_mode, timeout=timeout)
        )

    def get(self, definition: ConfigDefinition[T]) -> T:
        """See `ConfigManager.get`."""
        return self._manager.get(definition)

    def on_change(self, definition: ConfigDefinition[T], callback: Callable[[T], object]) -> None:
        """See `ConfigManager.on_change`."""
        self._manager.on_change(definition, callback)

    def watch(
        self,
        name: str,
        on_update: Callable[[ConfigUpdate], object],
        *,
        app: str = "default",
        env: str = "default",
        namespace: str = "default",
    ) -> Callable[[], None]:
        """See `ConfigManager.watch`; call what is returned to stop, outside of a callback."""
        watch = self._wait(self._manager.watch(name, on_update, app=app, env=env, namespace=namespace))
        return lambda: self._wait(watch.stop())

    @contextmanager
    def results(
        self, *, app: str = "default", env: str = "default", max_results: int = MAX_RESULTS
    ) -> Iterator[BlockingResultCache]:
        """See `ConfigManager.results`."""
        opened = self._manager.results(app=app, env=env, max_results=max_results)
        cache = self._wait(opened.__aenter__())
        try:
            yield BlockingResultCache(cache, self._started.result())
        finally:
            self._wait(opened.__aexit__(None, None, None))

    def why(self, app: str, env: str) -> str:
        """See `ConfigManager.why`."""
        return self._manager.why(app, env)

    def status(self, definition: ConfigDefinition[Any]) -> ConfigStatus:
        """See `ConfigManager.status`."""

        async def status() -> ConfigStatus:
            return self._manager.status(definition)

        return self._wait(status())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._started.result()).result()

    def _run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        try:
            async with self._manager:
                self._started.set_result(asyncio.get_running_loop())
                await self._stop.wait()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)


class BlockingResultCache:
    """A `ResultCache` for programs without an event loop: `compute` is called in a thread, and may be slow."""

    def __init__(self, cache: ResultCache, loop: asyncio.AbstractEventLoop) -> None:
        self._cache = cache
        self._loop = loop

    def get_or_compute(self, kind: str, key: Key, compute: Callable[[], T]) -> Result[T]:
        """See `ResultCache.get_or_compute`."""
        work = self._cache.get_or_compute(kind, key, lambda: asyncio.to_thread(compute))
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def bust(self, kind: str | None) -> None:
        """See `ResultCache.bust`."""
        self._loop.call_soon_threadsafe(self._cache.bust, kind)
