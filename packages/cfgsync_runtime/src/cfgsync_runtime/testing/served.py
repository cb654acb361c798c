"""A real server in a thread of its own, on a free port, for tests with and without an event loop.

with serving_materializer(MyMaterializer()) as server:
    assert server.files("node-1") == {"/config.yaml": "id: node-1\\n"}      # server.url is for other clients
"""

from __future__ import annotations

import asyncio
import http.client
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from typing import Any, Final, TypeAlias, TypedDict, TypeVar, Unpack

import msgspec

from cfgsync_adapter import Late, MaterializedArtifactsSink, RegistrationSnapshot
from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import (
    Backend,
    CfgsyncClient,
    Engine,
    Fetched,
    FetchFailed,
    FleetStatus,
    HttpServer,
    MissingForGood,
    NodeArtifactsBundle,
    NodeRegistration,
    NodeStatus,
    NotReadyInTime,
    StaticConfigSource,
)
from cfgsync_core.wire import MATERIALIZING

from ..compose.fleet_server import serving_snapshot
from ..compose.source_server import serving_source
from ..errors import InputError
from ..materializer.loading import materializer_from
from ..settings.bundle_file import load_bundle
from .observed import ObservedMaterializer
from .running_server import RunningServer
from .served_documents import write_document

T = TypeVar("T")

WAIT: Final = 10.0
"""Seconds that a test waits for files by default."""

FIX: Final = "fix the materializer: its own traceback is shown first"
HINTS: Final[dict[type, str]] = {
    NotReadyInTime: "register what the materializer waits for, for example server.register(…) for another node, or give a"
    " longer wait=",
    MissingForGood: "check the identifier: server.status() shows the nodes that get files",
}
"""What to do in a test, where a command line's advice does not fit."""
STILL_RUNS: Final = (
    "the materializer has not returned yet: look for what it waits for, or give a longer wait="
)

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
        source = StaticConfigSource(_files_by_node(bundle), as_set(shared))
    return Served(lambda: serving_source(source, source, acknowledging=source, details=source, port=port))


def serving_materializer(
    materializer: object, documents: Mapping[str, object] | None = None, **options: Unpack[ServingOptions]
) -> Served:
    """A server of `materializer`: an object with `materialize_snapshot`, or a class or function that gives one when it
    is called without arguments. It runs in this process, in a thread. `documents` are the first values of those that it
    reads: by name, or `namespace/name`. Raises `InputError` for anything else."""
    if not callable(materializer) and not hasattr(materializer, "materialize_snapshot"):
        raise InputError(
            f"{repr(materializer)[:80]} is not a materializer",
            "give an object with a method `materialize_snapshot(self, registrations)`, or a class or function that makes one",
        )
    name = getattr(materializer, "__qualname__", type(materializer).__qualname__)
    options.setdefault("expose_errors", True)
    observed = ObservedMaterializer(materializer_from(materializer, name))
    reads = bool(observed.documents)
    return Served(
        lambda: serving_snapshot(observed, documents=reads, open_documents=reads, **options),
        observed,
        documents,
    )


class Served(RunningServer):
    """A server of files. Its methods block, in any thread."""

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[HttpServer]],
        observed: ObservedMaterializer | None = None,
        documents: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(opened)
        self.observed: Final = observed
        """The materializer; None for a static bundle."""
        self._documents = documents or {}

    def _begin(self) -> None:
        for name, value in self._documents.items():
            self.set_document(name, value)

    def set_document(self, name: str, value: object) -> None:
        """Write a document that the materializer reads; see `ServedDocuments.set`."""
        scope = "" if self.observed is None else self.observed.documents
        if not scope:
            raise InputError(
                "the materializer reads no documents", 'give its class documents = "app/environment"'
            )
        write_document(self.port, scope, name, value)

    def files(
        self,
        node: str | NodeRegistration,
        *,
        ip: str = "127.0.0.1",
        metadata: object = None,
        wait: float = WAIT,
    ) -> dict[str, str | bytes]:
        """Register `node`, wait up to `wait` seconds, and return its files: content by path, in order. Writes nothing.

        Raises `FetchFailed`, whose `__cause__` is what the materializer raised, if anything: at once when it has seen the
        node and raises.
        """
        registration = registered_as(node, ip, metadata)

        async def fetch() -> Fetched:
            async with CfgsyncClient(self.url) as client:
                return await client.fetch(registration, wait=wait)

        try:
            fetched = self.loop.run(self._fetched(registration, fetch()))
        except FetchFailed as error:
            error.add_note(error.hint)
            raise error from self.failure
        return {file.path: file.content for file in fetched.payload.files}

    async def _fetched(self, registration: NodeRegistration, fetch: Coroutine[Any, Any, Fetched]) -> Fetched:
        (fetching,) = await self.unless_failed([registration], [fetch])
        if fetching.cancelled():
            assert self.failure is not None
            raise FetchFailed(NotReadyInTime(raised(self.failure), FIX, raised(self.failure)))
        error = fetching.exception()
        if isinstance(error, FetchFailed) and type(error.outcome) in HINTS:
            hint = HINTS[type(error.outcome)]
            if isinstance(error.outcome, NotReadyInTime) and error.outcome.reason == MATERIALIZING:
                hint = STILL_RUNS
            raise FetchFailed(msgspec.structs.replace(error.outcome, hint=hint)) from None
        return fetching.result()

    async def unless_failed(
        self, registrations: Sequence[NodeRegistration], work: Iterable[Coroutine[Any, Any, T]]
    ) -> list[asyncio.Task[T]]:
        """Do the work, and return its tasks: done, or cancelled as soon as the materializer failed on all registrations."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(one) for one in work]

        def give_up(seen: RegistrationSnapshot, _: BaseException) -> None:
            if all(seen.get(one.identifier) == one for one in registrations):
                for task in tasks:
                    loop.call_soon_threadsafe(task.cancel)

        with nullcontext() if self.observed is None else self.observed.on_failure(give_up):
            await asyncio.gather(*tasks, return_exceptions=True)
        return tasks

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
    def failure(self) -> BaseException | None:
        """What made the materializer's last run fail, or None."""
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
    if isinstance(files, str | bytes | ArtifactFile):
        raise InputError(
            f"files are a list of ArtifactFile or contents by path, not {type(files).__name__}", _FILES
        )
    return ArtifactSet(files)


def _files_by_node(bundle: Mapping[str, Files]) -> dict[str, ArtifactSet]:
    if not isinstance(bundle, Mapping):
        raise InputError(
            f"{type(bundle).__name__} is no bundle: it has the files of each node by its name", _BUNDLE
        )
    for node, files in bundle.items():
        if isinstance(files, str | bytes):
            raise InputError(
                f"the files of node {node!r} are text: the name of a node is missing around them", _BUNDLE
            )
    return {node: as_set(files) for node, files in bundle.items()}


_FILES: Final = 'write {"/config.yaml": "a: 1\\n"}'
_BUNDLE: Final = 'write {"node-1": {"/config.yaml": "a: 1\\n"}}, or the path of a YAML file'


def registered_as(node: str | NodeRegistration, ip: str, metadata: object) -> NodeRegistration:
    """A registration unchanged, or one made from a name."""
    if isinstance(node, NodeRegistration):
        return node
    return NodeRegistration(node, ip).with_metadata(metadata)


def raised(failure: BaseException) -> str:
    """What the materializer raised, or what is wrong with its result, in a sentence."""
    return f"the materializer raised {type(failure).__name__}{f': {failure}' if str(failure) else ''}"
