"""`cfgsync check MODULE:CLASS`: a materializer on a recorded fleet, compared with what was served; no server."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Literal

import msgspec
import typer

from cfgsync_adapter import NotReady
from cfgsync_adapter.answers import strangers
from cfgsync_adapter.generations import Prepared
from cfgsync_adapter.runs import overdue
from cfgsync_adapter.status import (
    FileChange,
    FileSummary,
    NodeChange,
    NodeContents,
    changes_of,
    prepared_contents,
)
from cfgsync_core import CfgsyncError, DocumentsSnapshot, MaterializationFailed, StoreRefused, Unavailable
from cfgsync_core.text import plain

from ..errors import InputError
from ..materializer.child import ChildDecider
from ..materializer.loading import split_target
from ..operator.recording import Recorded, read_snapshot, record_store, stored_documents
from ..settings.durations import seconds_of
from ..settings.variables import variable_of
from .parts.file_diff import contents_lines, diff_lines
from .parts.messages import Over, fail, note
from .parts.server_client import WORDS_SHOWN
from .parts.server_flags import AsJson


class Checked(msgspec.Struct, frozen=True):
    """What `check --json` prints. `generation` was served when the fleet was recorded, and `shared` and `nodes` differ
    from it; an operator had replaced the files of `not_compared`; `files` is the result."""

    result: Literal["equal", "different", "not_ready", "failed"]
    exit: int
    reason: str
    generation: str | None
    shared: tuple[FileChange, ...] = ()
    nodes: tuple[NodeChange, ...] = ()
    not_compared: tuple[str, ...] = ()
    shared_files: tuple[FileSummary, ...] = ()
    files: tuple[NodeContents, ...] = ()


def command(
    materializer: Annotated[
        str, typer.Argument(metavar="MODULE:CLASS", help="The application's materializer.")
    ],
    snapshot: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", envvar=[], help="A recorded fleet: cfgsync status --save-snapshot FILE."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar=[], help="Or a store, read beside its server: sqlite:FILE."),
    ] = None,
    run_timeout: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="Deadline of the run (90, 5m).  [default: 60]", show_default=False
        ),
    ] = "60",
    json: AsJson = False,
) -> None:
    """Run a materializer on a recorded fleet, print its files, and compare them with the served generation.

    \b
    Examples:
      cfgsync check app:MyMaterializer --snapshot fleet.json
      cfgsync check app:MyMaterializer --store sqlite:serve.db

    Exit codes: 0 equal; 1 different, failed, or NotReady where a generation was served (NotReady where none was is
    equal); 2 usage, a snapshot or a class that cannot be loaded. Nodes whose files an operator replaced are not
    compared. A traceback shows the application's frames only. It needs no server, and assumes that every deadline of a Quorum has passed.
    A PersistingSnapshotMaterializer does not write in it; a class of your own that writes must look at registrations.dry_run.
    """
    if snapshot is None and store is None:  # a flag for one wins over a variable for the other
        found = {flag: variable_of("check", flag).read(say=note) for flag in ("snapshot", "store")}
        snapshot, store = (None if one is None else one[1] for one in found.values())
        store = None if snapshot else store
    if (snapshot is None) == (store is None):
        raise typer.BadParameter("give one of --snapshot FILE and --store URL", param_hint="--snapshot")
    try:
        split_target(materializer)
        checked = asyncio.run(_check(materializer, snapshot, store, _deadline(run_timeout)))
    except InputError as error:
        _show(error.trace)
        raise typer.Exit(Over(fail(2, str(error), error.hint))) from error
    except (StoreRefused, Unavailable) as error:
        hint = getattr(error, "hint", "") or "cfgsync store check --store URL says more"
        raise typer.Exit(Over(fail(2, str(error), hint))) from error
    if json:
        print(msgspec.json.encode(checked).decode())
    else:
        _print(checked)
    raise typer.Exit(Over(checked.exit))


def _deadline(text: str) -> float:
    try:
        seconds = seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--run-timeout") from error
    if not seconds:
        raise typer.BadParameter("give a duration above 0", param_hint="--run-timeout")
    return seconds


def _show(trace: str) -> None:
    if trace:
        print(trace, file=sys.stderr, flush=True)


async def _check(target: str, file: str | None, store: str | None, run_timeout: float) -> Checked:
    recorded = read_snapshot(file) if file is not None else await record_store(store or "")
    served = None if recorded.generation is None else recorded.generation.generation
    fleet = recorded.fleet()
    async with ChildDecider(target) as decider:
        documents = await _documents(decider.documents, recorded, store)
        try:
            async with asyncio.timeout(run_timeout):
                answer = (await decider.decide(fleet, documents)).answer
        except TimeoutError as error:
            late = overdue(error, run_timeout)
            _show(late.trace)
            return Checked("failed", 1, late.cause, served)
        except MaterializationFailed as error:
            _show(error.trace)
            return Checked("failed", 1, f"{error.cause}{f' ({error.at})' if error.at else ''}", served)
        except CfgsyncError as error:
            return Checked("failed", 1, str(error), served)
    if isinstance(answer, NotReady):
        return Checked("not_ready", 0 if served is None else 1, answer.reason, served)
    if words := strangers(answer.nodes, fleet.identifiers):
        note(f"the result has {words}")
    return await asyncio.to_thread(_compared, recorded, served, answer)


async def _documents(named: str, recorded: Recorded, store: str | None) -> DocumentsSnapshot | None:
    """What a materializer with the attribute `documents` reads. Raises `InputError`."""
    if not named:
        return None
    found = await stored_documents(store, named) if store else recorded.read_documents()
    if found is None:
        raise InputError(
            f"the materializer reads the documents of {named}, and the snapshot has none",
            "record it again from a server of this materializer, or check with --store",
        )
    return found


def _compared(recorded: Recorded, served: str | None, made: Prepared) -> Checked:
    shared, nodes = prepared_contents(made)
    new = {node.identifier: node for node in nodes}
    old = {node.identifier: node for node in recorded.nodes}
    by_hand = tuple(sorted(name for name, node in old.items() if node.replaced))
    shared_changes = changes_of(recorded.shared, shared) if served is not None or shared else ()
    changes = []
    for name in sorted((old.keys() | new.keys()) - set(by_hand)):
        before, after = old.get(name), new.get(name)
        files = changes_of(before.files if before else (), after.files if after else ())
        if before is None or after is None:
            changes.append(NodeChange(name, "added" if before is None else "removed", files))
        elif files:
            changes.append(NodeChange(name, "changed", files))
        elif before.digest != after.digest and not shared_changes:
            changes.append(NodeChange(name, "changed", ()))  # the same files in another order
    result: Literal["equal", "different"] = (
        "different" if changes or shared_changes or served is None else "equal"
    )
    return Checked(
        result,
        int(result == "different"),
        "",
        served,
        shared_changes,
        tuple(changes),
        by_hand,
        shared,
        tuple(new.values()),
    )


def _print(checked: Checked) -> None:
    number = (
        "(nothing was served)"
        if checked.generation is None
        else f"generation {plain(checked.generation.rpartition('.')[2])}"
    )
    if checked.result == "failed":
        fail(checked.exit, f"failed: {plain(checked.reason, WORDS_SHOWN)}", "fix the materializer")
        return
    if checked.result == "not_ready":
        served = "nothing was served either" if checked.generation is None else f"{number} was served"
        print(f"not ready: {plain(checked.reason, WORDS_SHOWN)} ({served})")
        return
    for line in contents_lines(checked.shared_files, checked.files):
        print(line)
    for name in checked.not_compared:
        print(f"not compared: {plain(name)}, its files were an operator's")
    if checked.result == "equal":
        print(f"equal to {number}")
        return
    print(f"different from {number}")
    for line in diff_lines(checked.shared, checked.nodes):
        print(line)
