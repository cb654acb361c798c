"""Typed values for an application, in step with their documents: `ConfigManager`.

A change on the server is a value here within a second: the manager's read is held until there is one. Lost connections are
made up for by the next read, and no error empties what is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from cfgsync_core import Unavailable
from cfgsync_core.follow import INTERVAL, ReaderState
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

from ..document import DocumentName, Scope
from ..kinds import RESERVED
from .binding import Binding, ConfigWatch, check_callback
from .definition import (
    ConfigDefinition,
    ConfigNotRegistered,
    ConfigRegistrationException,
    ConfigRegistrationResult,
    ConfigStartupMode,
    ConfigStatus,
    ConfigUpdate,
)
from .expiry import MAX_RESULTS, ResultCache
from .kind_events import adopt_kinds, following_kinds
from .scope_view import FollowedScope, ScopeView, SubscribeToScope
from .snapshot_file import SnapshotFile
from .transport import ConfigRefused, ScopeTransport

T = TypeVar("T")

WITHIN: Final = {ConfigStartupMode.FAIL_CLOSED: 15.0, ConfigStartupMode.DEGRADED: 5.0}
"""Seconds until a registration gives up."""
RETRY_SECONDS: Final = 0.25
RETRY_AT_MOST: Final = 1.0

log = logging.getLogger("cfgsync.documents")


class ConfigManager:
    """Made by `ConfigManager.connect(url)`, in an `async with`.

    Callbacks are called in the event loop, once for each distinct later value, in order; one that raises is logged.
    """

    def __init__(
        self,
        transport: ScopeTransport,
        cache_dir: str | None = None,
        interval: float = INTERVAL,
        hints: SubscribeToScope | None = None,
    ) -> None:
        self._transport = transport
        self._hints = hints
        self._cache = None if cache_dir is None else Path(cache_dir)
        self._interval = interval
        self._scopes: dict[Scope, FollowedScope] = {}
        self._places: dict[int, tuple[ConfigDefinition[Any], FollowedScope, str]] = {}
        self._bootstraps: set[asyncio.Task[str]] = set()
        self._stack = AsyncExitStack()
        self._is_closed = False

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
        """A manager of the server at `url`, which connects as it is first needed. `token_file` has a token; `ca_file` or
        `ca_hash` verifies an https server; `cache_dir` takes the last applied values, for a degraded start.

        Without `hints` the server holds each read until there is news. With `hints(app, env)`, a subscription of yours to a
        bus, a scope is read after each of its hints, and every `interval` seconds. Raises `InvalidServerUrl`, `InvalidTrust`.
        """
        return cls(ScopeTransport(url, token_file, ca_file, ca_hash), cache_dir, interval, hints)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._transport)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_closed = True
        for bootstrap in self._bootstraps:
            bootstrap.cancel()
        await asyncio.gather(*self._bootstraps, return_exceptions=True)
        for followed in self._scopes.values():
            await followed.reader.close()
        await self._stack.aclose()

    async def register(
        self,
        definition: ConfigDefinition[T],
        *,
        app: str,
        env: str,
        startup_mode: ConfigStartupMode = ConfigStartupMode.FAIL_CLOSED,
        timeout: float | None = None,
    ) -> ConfigRegistrationResult:
        """Create the document with the default if it is absent, read the scope, and keep the value in step from now on.

        Gives up after `timeout` seconds (15, or 5 with DEGRADED). Raises `ConfigRegistrationException` with FAIL_CLOSED;
        `InvalidRequest` for a name that no document can have.
        """
        scope = Scope.checked(app, env)
        name = DocumentName.checked(scope, definition.namespace, definition.key)
        failed = "Config bootstrap failed"
        if self._is_closed:
            raise ConfigRegistrationException(failed, definition, app, env, "the manager was closed")
        if id(definition) in self._places:
            return ConfigRegistrationResult("ALREADY_REGISTERED", "definition_already_registered")
        followed = self._followed(scope)
        view = followed.view
        if name.key in view.bindings:
            return ConfigRegistrationResult("REJECTED", "config_key_already_registered")
        binding = view.bindings[name.key] = Binding(definition, f"{name.key} of {scope}")
        view.unsent.add(name.key)
        self._places[id(definition)] = (definition, followed, name.key)
        within = WITHIN[startup_mode] if timeout is None else timeout
        bootstrap = asyncio.create_task(self._bootstrap(followed, name.key, within))
        self._bootstraps.add(bootstrap)
        bootstrap.add_done_callback(self._bootstraps.discard)
        try:
            await asyncio.wait([bootstrap])
            why = "the manager was closed" if bootstrap.cancelled() else bootstrap.result()
        except BaseException:
            bootstrap.cancel()
            await self._forget(definition)
            raise
        if binding.is_ready:
            return ConfigRegistrationResult("READY")
        if startup_mode is ConfigStartupMode.FAIL_CLOSED or bootstrap.cancelled():
            await self._forget(definition)
            words = failed if why else "Config bootstrap left binding uninitialized"
            raise ConfigRegistrationException(words, definition, app, env, why or binding.error)
        if not why:
            return ConfigRegistrationResult("NOT_READY", "binding_not_initialized")
        await followed.start()
        if await asyncio.to_thread(view.bind_cached, name.key):
            log.warning(
                "%s: started from the cache (version %s, written %.0f s ago): %s",
                binding.name,
                view.started_from,
                view.age() or 0.0,
                why,
                extra=event("degraded", document=binding.name),
            )
            return ConfigRegistrationResult("DEGRADED", "loaded_cached_snapshot")
        return ConfigRegistrationResult("NOT_READY", "bootstrap_failed_no_cached_snapshot")

    def get(self, definition: ConfigDefinition[T]) -> T:
        """The value now. Raises `ConfigNotRegistered`, `ConfigNotReady`."""
        return self._binding(definition).value

    def on_change(self, definition: ConfigDefinition[T], callback: Callable[[T], object]) -> None:
        """Call `callback`, a plain function, with each later value. Raises `ConfigNotRegistered`; `TypeError` for an async
        function."""
        check_callback(callback)
        self._binding(definition).callbacks.append(callback)

    async def watch(
        self,
        name: str,
        on_update: Callable[[ConfigUpdate], object],
        *,
        app: str = "default",
        env: str = "default",
        namespace: str = "default",
    ) -> ConfigWatch:
        """Call `on_update` with the value of a document without a type, once it is read, and with each newest one, until
        `await watch.stop()`. Raises `InvalidRequest` for a name that no document can have; `TypeError` for an async function."""
        check_callback(on_update)
        followed = self._followed(Scope.checked(app, env))
        document = DocumentName.checked(followed.view.scope, namespace, name)

        async def ended(watch: ConfigWatch) -> None:
            if watch in followed.view.watches:
                followed.view.watches.remove(watch)
                await self._leave(followed)

        watch = ConfigWatch(document, on_update, ended)
        followed.view.watch(watch)
        await followed.start()
        return watch

    @asynccontextmanager
    async def results(
        self,
        *,
        app: str = "default",
        env: str = "default",
        max_results: int = MAX_RESULTS,
        redis_url: str | None = None,
    ) -> AsyncIterator[ResultCache]:
        """A cache of results while the context lasts. The scope's document `cfgsync/kinds` says how long each kind may be used,
        and the server's stream expires kinds at once. With `redis_url` (extra `redis`), processes share what JSON can hold."""
        scope = Scope.checked(app, env)
        cache = ResultCache(max_results=max_results)
        if redis_url is not None:
            from .redis_results import RedisResults  # an extra

            cache.shared = RedisResults(redis_url, scope)
        watch = await self.watch(
            "kinds", lambda kinds: adopt_kinds(cache, scope, kinds), app=app, env=env, namespace=RESERVED
        )
        try:
            async with following_kinds(self._transport, scope, cache):
                yield cache
        finally:
            await watch.stop()
            if cache.shared is not None:
                await cache.shared.close()

    def why(self, app: str, env: str) -> str:
        """Why what is known of a scope is not current, `""` when it is, or when nothing of it is read."""
        followed = self._scopes.get(Scope(app, env))
        return "" if followed is None else followed.reader.why

    def status(self, definition: ConfigDefinition[Any]) -> ConfigStatus:
        """How current the value is. Raises `ConfigNotRegistered`."""
        binding, now = self._binding(definition), time.monotonic()
        _, followed, _ = self._places[id(definition)]
        view, reader = followed.view, followed.reader
        read, hinted = (None if at is None else now - at for at in (view.read_at, view.hinted_at))
        state = reader.state if followed.is_running else ReaderState.NEW
        why, version = binding.error or reader.why, str(view.known or view.started_from)
        return ConfigStatus(state, version, view.age(), why, read, hinted)

    async def _bootstrap(self, followed: FollowedScope, key: str, within: float) -> str:
        """Send the default, start to follow, and bind what is read; why it failed, or `""`."""
        why = "the server did not answer in time"
        view = followed.view

        async def attempt() -> None:
            nonlocal why
            pause = RETRY_SECONDS
            while True:
                try:
                    revision = await view.send_defaults()
                    break
                except Unavailable as error:
                    why = error_text(error)
                    await asyncio.sleep(pause)
                    pause = min(RETRY_AT_MOST, 2 * pause)
            if followed.is_running and self._hints is not None:
                followed.reader.hint("a definition was registered")  # no held read ends by itself
            await followed.start()
            await view.reached(revision)

        try:
            async with asyncio.timeout(within), followed.turn:
                await attempt()
        except TimeoutError:
            return followed.reader.why or why if followed.is_running else why
        except ConfigRefused as error:
            return error_text(error)
        if not view.bindings[key].is_ready:
            await view.bind(key)
        return ""

    def _followed(self, scope: Scope) -> FollowedScope:
        if scope not in self._scopes:
            file = None if self._cache is None else SnapshotFile(self._cache, scope)
            view = ScopeView(scope, self._transport, file)
            self._scopes[scope] = FollowedScope(view, self._interval, self._hints)
        return self._scopes[scope]

    async def _forget(self, definition: ConfigDefinition[Any]) -> None:
        _, followed, key = self._places.pop(id(definition))
        followed.view.bindings.pop(key, None)
        followed.view.unsent.discard(key)
        await self._leave(followed)

    async def _leave(self, followed: FollowedScope) -> None:
        view = followed.view
        if not view.bindings and not view.watches and self._scopes.get(view.scope) is followed:
            del self._scopes[view.scope]
            await followed.reader.close()

    def _binding(self, definition: ConfigDefinition[T]) -> Binding[T]:
        try:
            _, followed, key = self._places[id(definition)]
        except KeyError:
            raise ConfigNotRegistered(f"{definition} is not registered") from None
        return followed.view.bindings[key]
