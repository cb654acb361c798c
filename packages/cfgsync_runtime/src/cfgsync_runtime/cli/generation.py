"""`cfgsync generation …`: list, show and compare generations, and make a new one by hand."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import typer

from cfgsync_adapter.status import DiffPage, GenerationPage, GenerationSummary
from cfgsync_core.text import counted, plain

from .app import PLAIN
from .parts.file_diff import contents_lines, diff_lines
from .parts.messages import fail
from .parts.server_client import WORDS_SHOWN, OperatorClient, ServerClient
from .parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server

app = typer.Typer(no_args_is_help=True, **PLAIN)

ROUTE: Final = "/admin/generations"
LONGEST_HOLD: Final = 30.0
Number = Annotated[int | None, typer.Argument(metavar="[N]", min=1)]


class _List(msgspec.Struct, frozen=True):
    generations: tuple[GenerationSummary, ...]


class _Renewed(msgspec.Struct, frozen=True):
    outcome: str
    claim: int
    generation: str | None = None
    reason: str = ""


@app.callback()
def group() -> None:
    """List, show and compare generations, or make a new one.

    \b
    Examples:
      cfgsync generation list
      cfgsync generation diff
    """


@app.command("list", short_help="The generations that the server knows.")
@asking_a_server
def list_(
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """The generations that the server knows, newest first.

    The server holds the files of the current one, the previous one and the last one that a whole rollout came through
    (FILES yes) for show, diff and rollout revert. ROLLOUT says how each ended, where nodes take turns.

    \b
    Examples:
      cfgsync generation list
      cfgsync generation list --json
    """
    with OperatorClient(server) as client:
        found = _all(client)
    if json:
        print(msgspec.json.encode({"generations": found}).decode())
        return
    if not found:
        print("no generation yet: cfgsync status says why")
        return
    print(f"epoch {plain(found[0].generation.rpartition('.')[0])}")
    print(f"{'NUMBER':>7}  {'WHEN':20}  {'CLAIM':>5}  {'REGISTRATIONS':>13}  {'NODES':>6}  FILES  ROLLOUT")
    for one in found:
        revision = plain(one.registrations.rpartition(".")[2], 20)
        when = plain(one.at or "-", 30)
        files = "yes" if one.contents else "no"
        row = f"{one.number:>7}  {when:20}  {one.claim:>5}  {revision:>13}  {one.nodes:>6}  {files:5}  {plain(one.outcome, 40)}"
        print(row.rstrip())


@app.command(short_help="The nodes of a generation, and their files.")
@asking_a_server
def show(
    number: Number = None,
    contents: Annotated[
        bool, typer.Option("--contents", help="Print text files too; never what only its owner may read.")
    ] = False,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """The nodes of generation N (default: the current one) and their files: mode, size, digest, path.

    A file that only its owner may read (mode 0600) is a secret: its content is never printed.

    \b
    Examples:
      cfgsync generation show
      cfgsync generation show 3 --contents
    """
    with OperatorClient(server) as client:
        wanted = _held(client, number)
        query: dict[str, object] = {"number": wanted, **({"contents": 1} if contents else {})}
        pages = client.pages(ROUTE, query, GenerationPage)
        if json:
            _print_json(list(pages))
            return
        for at, page in enumerate(pages):
            if at == 0 and page.generation is not None:
                head = page.generation
                print(
                    f"generation {head.number}, {counted(head.nodes, 'node')}, {plain(head.at or 'time not known', 30)}, claim {head.claim}"
                )
            print("\n".join(contents_lines(page.shared, page.nodes, contents)))


@app.command(short_help="What changed from one generation to another.")
@asking_a_server
def diff(
    before: Annotated[int | None, typer.Argument(metavar="[A]", min=1)] = None,
    after: Annotated[int | None, typer.Argument(metavar="[B]", min=1)] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 when there is a difference, as git does.")
    ] = False,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """What generation B (default: the current one) changed since A (default: the previous one).

    Exit 0 also when they differ, unless --exit-code. Text is compared line by line; secrets by their digests alone.

    \b
    Examples:
      cfgsync generation diff
      cfgsync generation diff 2 3 --exit-code
    """
    different = False
    with OperatorClient(server) as client:
        new = _held(client, after)
        if before is None and new == 1:
            only = "generation 1 is the only one: there is nothing to compare it with"
            raise typer.Exit(fail(1, only, "cfgsync generation show prints its files"))
        old = _held(client, before or new - 1)
        pages = client.pages(ROUTE, {"from": old, "to": new}, DiffPage)
        all_pages: list[DiffPage] = []
        for page in pages:
            different = different or bool(page.shared or page.nodes)
            if json:
                all_pages.append(page)
                continue
            for line in diff_lines(page.shared, page.nodes):
                print(line)
    if json:
        _print_json(all_pages)
    elif not different:
        print(
            f"generations {old} and {new} give every node the same files of its own, and the same shared ones"
        )
    raise typer.Exit(int(exit_code and different))


@app.command("renew", hidden=True)
@app.command(short_help="Run the materializer again for all nodes.")
@asking_a_server
def rebuild(
    accept: Annotated[
        bool, typer.Option("--accept", help="Let it leave out what the shrink guard would refuse, this once.")
    ] = False,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Give it to every node at the same time: nobody takes turns.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=LONGEST_HOLD, help="How long to wait for the run.")
    ] = LONGEST_HOLD,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Run the materializer again for all nodes. If a file differs, this makes a new generation; if none does, the
    generation keeps its number.

    A frozen fleet (serve --late freeze, or after cfgsync rollout revert) takes in what has changed since: nodes, their
    registrations, documents, replaced files. cfgsync generation renew is the older name of this command.

    \b
    Examples:
      cfgsync generation rebuild
      cfgsync generation rebuild --accept
      cfgsync generation rebuild --at-once

    Exit codes: 0 a generation is published, 1 none was made
    (not ready, failed, or no run in time), 5 refused, 7 no answer.
    """
    body = msgspec.json.encode({"accept": accept, "at_once": at_once})
    with OperatorClient(server) as client:
        answer = client.post(f"/admin/renew?wait={timeout:g}", body, timeout + 10.0)
        renewed = client.decoded("/admin/renew", answer, _Renewed)
    made = renewed.outcome in ("new", "equal")
    if json:
        print(answer.body.decode())
        raise typer.Exit(0 if made else 1)
    number = (renewed.generation or "").rpartition(".")[2]
    if renewed.outcome == "new":
        print(f"generation {plain(number)}")
    elif renewed.outcome == "equal":
        print(f"generation {plain(number)} is unchanged: the files are the same")
    else:
        stays = f"; generation {plain(number)} stays" if number else ""
        words = {"not_ready": "not ready: ", "failed": "", "pending": "queued, and "}.get(renewed.outcome, "")
        hint = "the rebuild is queued: the next successful run publishes the generation"
        raise typer.Exit(fail(1, f"{words}{plain(renewed.reason, WORDS_SHOWN)}{stays}", hint))


def _all(client: ServerClient) -> tuple[GenerationSummary, ...]:
    found = client.get(ROUTE, {}, _List)
    assert found is not None  # `missing` is not given
    return found.generations


def _held(client: ServerClient, number: int | None) -> int:
    """The number of a generation whose files are held; None is the current one. Ends the command for any other."""
    found = _all(client)
    if not found:
        raise typer.Exit(fail(1, "there is no generation yet", "cfgsync status says why"))
    wanted = found[0].number if number is None else number
    held = [one.number for one in found if one.contents]
    if wanted not in held:
        gone = wanted < found[0].number
        why = (
            f"the files of generation {wanted} are no longer held"
            if gone
            else f"there is no generation {wanted}"
        )
        those = f"the files of {' and '.join(map(str, held))} are held" if held else "none are held"
        raise typer.Exit(fail(1, why, f"{those}: cfgsync generation list"))
    return wanted


def _print_json(pages: list[GenerationPage] | list[DiffPage]) -> None:
    """The pages as the one object that they are."""
    whole = {**msgspec.to_builtins(pages[0]), "nodes": [node for page in pages for node in page.nodes]}
    del whole["next"]
    print(msgspec.json.encode(whole).decode())
