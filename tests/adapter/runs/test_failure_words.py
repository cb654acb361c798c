"""Nodes and `/status` get type and place of an application's failure, the log its words; cfgsync's own words are for all."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from pathlib import Path

import pydantic
import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializedArtifacts,
    NodeRegistration,
    PersistingSnapshotMaterializer,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.application.failure import application_traceback
from cfgsync_core import MaterializationFailed, MetadataMismatch, Ready, Unavailable
from tests.adapter.fleets import ReadyAt, node

SECRET = "hunter2"


def at(code: str) -> str:
    """The place of the first line of this file that begins with this code."""
    lines = Path(__file__).read_text().splitlines()
    number = next(number for number, line in enumerate(lines, 1) if line.strip().startswith(code))
    return f"in test_failure_words.py, line {number}"


class Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit(SECRET)


class Sink:
    def persist(self, artifacts: MaterializedArtifacts) -> None:
        raise PermissionError(SECRET)


def called() -> None:
    subprocess.run(["false", f"--password={SECRET}"], check=True)


def chained() -> None:
    try:
        raise OSError(SECRET)
    except OSError as error:
        raise RuntimeError(f"no database at {SECRET}") from error


def grouped() -> None:
    raise ExceptionGroup(SECRET, [ExceptionGroup("inner", [KeyError(SECRET), OSError()]), OSError()])


def gathered() -> None:
    async def one() -> None:
        raise ValueError(SECRET)

    async def both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one())

    asyncio.run(both())


def unreadable() -> None:
    raise Silent


def compiled() -> None:
    compile(f"password = {SECRET} {SECRET}", "/srv/app/settings.py", "exec")


def mismatched() -> None:
    raise MetadataMismatch("a", SECRET)


def unavailable() -> None:
    raise Unavailable(SECRET)


def failed() -> None:
    raise MaterializationFailed(SECRET)


def left() -> None:
    raise SystemExit(SECRET)  # leaves


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (called, f"CalledProcessError {at('subprocess.run')}"),
        (chained, f"RuntimeError {at('raise RuntimeError(f')}"),
        (grouped, f"ExceptionGroup {at('raise ExceptionGroup(')}: KeyError and 2 more"),
        (gathered, f"ExceptionGroup {at('async with asyncio.TaskGroup')}: ValueError {at('raise ValueError(SECRET)')}"),
        (unreadable, f"Silent {at('raise Silent')}"),
        (compiled, "SyntaxError in settings.py, line 1"),
        (mismatched, f"MetadataMismatch {at('raise MetadataMismatch')}"),
        (unavailable, f"Unavailable {at('raise Unavailable')}"),
        (failed, f"MaterializationFailed {at('raise MaterializationFailed')}"),
        (left, f"SystemExit {at('raise SystemExit(SECRET)  # leaves')}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_failure_is_told_by_type_and_place_and_logged_with_its_words(
    fail: object, kind: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            assert callable(fail)
            fail()
            raise AssertionError

    class FailsLater:
        async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            await asyncio.sleep(0)
            return await asyncio.to_thread(Fails().materialize_snapshot, registrations)

    with caplog.at_level(logging.WARNING, "cfgsync"):
        async with RegistrationConfigSource(FailsLater() if is_async else Fails()) as source:
            await source.register(node("a"))
            with pytest.raises(MaterializationFailed) as caught:
                await source.resolve("a", wait=5)
            fleet, one = source.fleet(9, ""), source.node("a")
    assert str(caught.value) == f"failed to materialize config snapshot: {kind}"
    assert (fleet.reason, one.reason) == (str(caught.value), f"registered; {caught.value}")
    assert one.because == kind
    assert SECRET not in f"{fleet}{one}"
    (line,) = [one.getMessage() for one in caplog.records]
    assert line == f"the materializer failed: {caught.value.cause} ({kind})"
    assert (SECRET in line) == (fail not in (unreadable, compiled))
    assert caught.value.in_full.endswith(f": {caught.value.cause} ({kind})")


async def test_the_words_of_a_failure_are_for_all_when_they_may_be_exposed() -> None:
    class Fails:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            raise RuntimeError("no database")

    async with RegistrationConfigSource(Fails(), expose_errors=True) as source:
        await source.register(node("a"))
        with pytest.raises(
            MaterializationFailed, match=r"^failed to materialize config snapshot: no database$"
        ):
            await source.resolve("a", wait=5)
        assert source.node("a").because == "no database"


async def test_what_cfgsync_says_about_a_result_is_for_all() -> None:
    for result, words in (
        (None, "materialize_snapshot returned NoneType, expected MaterializedArtifacts or NotReady"),
        (MaterializedArtifacts({"a": ArtifactSet()}), "artifact 'a': this node is given no files"),
    ):

        class Wrong:
            def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
                return result  # type: ignore[return-value]  # noqa: B023

        async with RegistrationConfigSource(Wrong()) as source:
            await source.register(node("a"))
            with pytest.raises(MaterializationFailed) as caught:
                await source.resolve("a", wait=5)
            assert words in str(caught.value)


@pytest.mark.parametrize("exposed", [False, True])
async def test_the_failure_of_a_sink_is_told_in_the_same_way(
    exposed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with RegistrationConfigSource(ReadyAt(1), sink=Sink(), expose_errors=exposed) as source:
        await source.register(node("a"))
        await source.resolve("a", wait=5)
        for _ in range(500):
            if reason := source.fleet(9, "").reason:
                break
            await asyncio.sleep(0.01)
    where = f"PermissionError {at('raise PermissionError')}"
    assert reason == f"the sink failed: {SECRET if exposed else where}"
    assert caplog.records[0].getMessage() == f"generation 1: the sink failed: {SECRET} ({where})"


async def test_the_failure_of_a_sink_in_a_materializer_is_told_by_its_place() -> None:
    async with RegistrationConfigSource(PersistingSnapshotMaterializer(ReadyAt(1), Sink())) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed, match=f"PermissionError {at('raise PermissionError')}"):
            await source.resolve("a", wait=5)


async def test_one_misspelt_name_is_a_warning_that_names_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    class Misspelt:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            return MaterializedArtifacts.from_nodes({n: [ArtifactFile("/a", "x")] for n in ("db-1", "db_2")})

    async with RegistrationConfigSource(Misspelt()) as source:
        for name in ("db-1", "db-2"):
            await source.register(node(name))
        await source.resolve("db-1", wait=5)
        assert await source.resolve("db-2", wait=5)
        assert source.node("db-2").reason == (
            "the materializer gave it no files; it gave files to db_2, which is not registered; is a name misspelt?"
        )
        await source.register(node("other"))
        await source.resolve("other", wait=5)
        assert source.node("other").reason == "the materializer gave it no files"
    words = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(words) == 1
    assert words[0].endswith(
        "has files for db_2, which is not registered, and none for db-2; is a name misspelt?"
    )


async def test_a_generation_for_nobody_is_published_with_a_warning_that_names_both_sides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Misspelt:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            names = [] if "nobody" in registrations else ["node1", "node2"]
            return MaterializedArtifacts.from_nodes({name: [ArtifactFile("/a", "x")] for name in names})

    def warned() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]

    async with RegistrationConfigSource(Misspelt(), shrink_guard=0) as source:
        await source.register(node("node-1"))
        await source.resolve("node-1", wait=5)
        words = (
            "generation 1 has files for none of the registered nodes: it names node1 and node2, and registered is"
            " node-1; is a name misspelt?"
        )
        assert source.fleet(9, "").reason == words
        assert source.node("node-1").state == "no_files"
        await source.register(node("x"))
        await source.resolve("x", wait=5)
        assert source.node("x").reason == (
            "the materializer gave it no files; it gave files to node1 and node2, which are not registered; is a name"
            " misspelt?"
        )
        assert "and registered are node-1 and x;" in source.fleet(9, "").reason
        await source.evict("x")
        assert warned() == [words]
        await source.register(node("node1"))
        assert await source.resolve("node1", wait=5)
        assert source.fleet(9, "").reason == ""
        await source.register(node("nobody"))
        await source.resolve("nobody", wait=5)
        assert "it names no node, and registered are" in source.fleet(9, "").reason
        assert len(warned()) == 2


class Port(pydantic.BaseModel):
    port: int


class Parsed:
    """Fails in a library below cfgsync, or in one below the application."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        for one in registrations:
            if one.metadata == "library":
                try:
                    Port.model_validate_json("{}")
                except ValueError as error:
                    raise LookupError("no port") from error
            one.metadata_as(Port)
        raise AssertionError


@pytest.mark.parametrize(
    ("metadata", "errors", "frames"),
    [
        ({"prot": SECRET}, ["MetadataMismatch: metadata of node a: port: Field required"], 1),
        ("library", ["ValidationError: 1 validation error for Port", "LookupError: no port"], 2),
    ],
)
def test_a_traceback_has_the_applications_frames_and_the_exceptions_that_it_has_seen(
    metadata: object, errors: list[str], frames: int
) -> None:
    snapshot = RegistrationSnapshot([NodeRegistration("a", "10.0.0.1").with_metadata(metadata)])
    with pytest.raises((MetadataMismatch, LookupError)) as caught:
        Parsed().materialize_snapshot(snapshot)
    trace = application_traceback(caught.value)
    places = [line.partition(",")[0] for line in trace.splitlines() if line.startswith("  File ")]
    assert places == [f'  File "{__file__}"'] * (frames + 1)
    assert trace.count("Traceback (most recent call last):") == len(errors)
    for words in errors:
        assert words in trace
    assert SECRET not in trace


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=repr)
async def test_a_sink_that_exits_or_cancels_itself_has_failed_and_the_server_goes_on(
    error: BaseException, is_async: bool
) -> None:
    class Ends:
        def persist(self, artifacts: MaterializedArtifacts) -> None:
            raise error

    class EndsLater:
        async def persist(self, artifacts: MaterializedArtifacts) -> None:
            raise error

    async with RegistrationConfigSource(ReadyAt(1), sink=EndsLater() if is_async else Ends()) as source:
        await source.register(node("a"))
        assert isinstance(await source.resolve("a", wait=5), Ready)
        async with asyncio.timeout(10):
            while "the sink failed: " not in source.fleet(9, "").reason:
                await asyncio.sleep(0.01)
        assert type(error).__name__ in source.fleet(9, "").reason
