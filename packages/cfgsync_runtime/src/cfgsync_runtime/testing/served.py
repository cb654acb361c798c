"""A real server in a thread of its own, on a free port, for tests with and without an event loop.

with serving_materializer(MyMaterializer()) as server:
    assert server.files("node-1") == {"/config.yaml": "id: node-1\\n"}      # server.url is for other clients
"""

from __future__ import annotations

import asyncio
import http.client
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, closing
from typing import Final, Self, TypeAlias, TypedDict, TypeVar, Unpack

import msgspec

from cfgsync_adapter import Late, MaterializedArtifactsSink
from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import (
    Backend,
    CfgsyncClient,
    Engine,
    FetchFailed,
    FleetStatus,
    HttpServer,
    NodeArtifactsBundle,
    NodeRegistration,
    NodeStatus,
    StaticConfigSource,
)

from ..compose.fleet_server import serving_snapshot
from ..compose.source_server import serving_source
from ..errors import InputError
from ..materializer.loading import materializer_from
from ..settings.bundle_file import load_bundle
from .loop_thread import LoopThread
from .observed import ObservedMaterializer

T = TypeVar("T")

WAIT: Final = 10.0
"""Seconds that a test waits for files by default."""

Files: TypeAlias = ArtifactSet | Iterable[ArtifactFile] | Mapping[str, str | bytes]
"""A node's files: a set, a list, or contents by path."""

Bundle: TypeAlias = NodeArtifactsBundle | Mapping[str, Files] | str | os.PathLike[str]
"""The files of a static server: a bundle, files by node, or the path of a YAML file."""


class ServingOptions(TypedDict, total=False):
    """Options of `serving_snapshot`, with the same defaults, but for `expose_errors`: a test sees the words of a failure."""

    port: int
    store: Backend | Engine | str
    late: Late
    revision: str | None
    sink: MaterializedArtifactsSink | None
    run_timeout: float
    shrink_guard: float
    ttl: float | None
    expose_errors: bool


def serving_bundle(bundle: Bundle, shared: Files = (), *, port: int = 0) -> Served:
    """A server of fixed files: `with serving_bundle({"node-1": {"/a.yaml": "a: 1\\n"}}) as server`.

    `shared` follows every node's own files; the path of a YAML file brings its own. Raises `InvalidBundle`,
    `InvalidArtifact`, `InputError` (with the line of the file).
    """
    if isinstance(bundle, str | os.PathLike):
        bundle = load_bundle(os.fspath(bundle))
    if isinstance(bundle, NodeArtifactsBundle):
        if shared:
            raise InputError(
                "a bundle has its own shared files", "leave out `shared`, or add it to the bundle"
            )
        source = StaticConfigSource.from_bundle(bundle)
    else:
        source = StaticConfigSource({node: as_set(files) for node, files in bundle.items()}, as_set(shared))
    return Served(lambda: serving_source(source, source, acknowledging=source, details=source, port=port))


def serving_materializer(materializer: object, **options: Unpack[ServingOptions]) -> Served:
    """A server of `materializer`: an object with `materialize_snapshot`, or a class or function that gives one when it
    is called without arguments. It runs in this process, in a thread. Raises `InputError` for anything else."""
    if not callable(materializer) and not hasattr(materializer, "materialize_snapshot"):
        raise InputError(
            f"{repr(materializer)[:80]} is not a materializer",
            "give an object with a method `materialize_snapshot(self, registrations)`, or a class or function that makes one",
        )
    name = getattr(materializer, "__qualname__", type(materializer).__qualname__)
    options.setdefault("expose_errors", True)
    observed = ObservedMaterializer(materializer_from(materializer, name))
    return Served(lambda: serving_snapshot(observed, **options), observed)


class Served:
    """A server that runs while it is entered; leaving, or `stop()`, ends it. Its methods block, in any thread."""

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[HttpServer]],
        observed: ObservedMaterializer | None = None,
    ) -> None:
        self._opened = opened
        self._running = ExitStack()
        self.observed: Final = observed
        """The materializer; None for a static bundle."""
        self.url = ""
        self.loop: LoopThread
        """The loop that the server runs in."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.loop = stack.enter_context(LoopThread("cfgsync-server"))
            up: Future[tuple[HttpServer, asyncio.Event]] = Future()
            living = self.loop.start(self._live(up))
            try:
                server, stop = up.result()
            except BaseException:
                living.cancel()
                raise
            self.url = server.url
            stack.callback(self.loop.run, _ended(living, stop))
            self._running = stack.pop_all()
        return self

    async def _live(self, up: Future[tuple[HttpServer, asyncio.Event]]) -> None:
        stop = asyncio.Event()
        try:
            async with self._opened() as server:
                up.set_result((server, stop))
                await stop.wait()
        except BaseException as error:
            if up.done():
                raise
            up.set_exception(error)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it now; a store in memory is lost. A second call does nothing."""
        self._running.pop_all().close()

    @property
    def port(self) -> int:
        """The port at 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def files(
        self,
        node: str | NodeRegistration,
        *,
        ip: str = "127.0.0.1",
        metadata: object = None,
        wait: float = WAIT,
    ) -> dict[str, str | bytes]:
        """Register `node`, wait up to `wait` seconds, and return its files: content by path, in order. Writes nothing.

        Raises `FetchFailed`, whose `__cause__` is what the materializer raised, if anything.
        """
        registration = registered_as(node, ip, metadata)

        async def fetch() -> dict[str, str | bytes]:
            async with CfgsyncClient(self.url) as client:
                fetched = await client.fetch(registration, wait=wait)
            return {file.path: file.content for file in fetched.payload.files}

        try:
            return self.loop.run(fetch())
        except FetchFailed as error:
            error.add_note(error.hint)
            raise error from self.failure

    def register(
        self, node: str | NodeRegistration, *, ip: str = "127.0.0.1", metadata: object = None
    ) -> None:
        """Register `node` without waiting for files."""
        registration = registered_as(node, ip, metadata)

        async def register() -> None:
            async with CfgsyncClient(self.url) as client:
                await client.register(registration)

        self.loop.run(register())

    @property
    def failure(self) -> Exception | None:
        """The exception of the materializer's last run, or None."""
        return None if self.observed is None else self.observed.failure

    def status(self) -> FleetStatus:
        """`GET /status`: which nodes are registered or missing, and why the fleet is not ready."""
        return self._get("/status", FleetStatus)

    def node_status(self, identifier: str) -> NodeStatus:
        """`GET /status/{identifier}`."""
        return self._get(f"/status/{identifier}", NodeStatus)

    def _get(self, path: str, kind: type[T]) -> T:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET {path} answered {answer.status}: {body[:500].decode(errors='replace')}")
        return msgspec.json.decode(body, type=kind)


def as_set(files: Files) -> ArtifactSet:
    """A node's files as a set. Raises `InvalidArtifact`, `DuplicatePath`."""
    if isinstance(files, ArtifactSet):
        return files
    if isinstance(files, Mapping):
        return ArtifactSet(ArtifactFile(path, content) for path, content in files.items())
    return ArtifactSet(files)


def registered_as(node: str | NodeRegistration, ip: str, metadata: object) -> NodeRegistration:
    """A registration unchanged, or one made from a name."""
    if isinstance(node, NodeRegistration):
        return node
    return NodeRegistration(node, ip).with_metadata(metadata)


async def _ended(living: Future[None], stop: asyncio.Event) -> None:
    stop.set()
    await asyncio.wrap_future(living)
