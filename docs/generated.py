"""The parts of the reference that are read from the program, so that they always agree with it.

A page has a line `<!-- generated: NAME -->`, and what `SECTIONS[NAME]()` returns follows until `<!-- end -->`: so it can
be read in the repository, and a test keeps it true. `make reference` writes it anew. Only the Python API, which is as long
as all others, is put in its place by the build, where no `<!-- end -->` follows.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import typer
from python_api import python_api

from cfgsync_adapter import MaterializationResult, NotReady, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_artifacts import paths
from cfgsync_core import MemoryStore
from cfgsync_core.server.access import LocalOperators
from cfgsync_core.server.connection import connections
from cfgsync_core.server.connection.body import BODY_SECONDS
from cfgsync_core.server.watch_stream import WatchStreams
from cfgsync_core.wire import limits as wire_limits
from cfgsync_core.wire.protocol import CODE, STATUS
from cfgsync_runtime.access.tokens.credentials import credentials
from cfgsync_runtime.access.tokens.tokens import Tokens
from cfgsync_runtime.cli import app
from cfgsync_runtime.cli.dropins import client as client_dropin
from cfgsync_runtime.compose.fleet_server import fleet_routes
from cfgsync_runtime.metrics.endpoint import metrics_routes
from cfgsync_runtime.metrics.observed import Observed
from cfgsync_runtime.metrics.requests import RequestCounts
from cfgsync_runtime.node.ending import EXIT, REASON
from cfgsync_runtime.operator.token_routes import token_routes
from cfgsync_runtime.page.answering import page_routes
from cfgsync_runtime.settings import server_file
from cfgsync_runtime.settings.serve_settings import ServeSettings, variable_of_field


def commands() -> Iterator[tuple[str, Any]]:
    """`cfgsync serve` and the rest, each with its click command; a group before what is in it. An older name is left out."""
    group = app.LazyGroup(name="cfgsync")
    for name in app.COMMANDS:
        command = group.get_command(None, name)
        yield f"cfgsync {name}", command
        for inner, one in getattr(command, "commands", {}).items():
            if not one.hidden:
                yield f"cfgsync {name} {inner}", one


def command_line() -> str:
    """The help of each command, as `--help` prints it on a terminal of 80 columns, each under its own heading."""
    parts = []
    for path, command in commands():
        context = typer.Context(command, info_name=path, terminal_width=78, max_content_width=78, **app.HELP)
        with context:
            parts.append(f"## `{path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def drop_ins() -> str:
    return f"```text\n{client_dropin.USAGE}```\n"


def exit_codes() -> str:
    """The codes of `fetch`, with the `reason` in `--json` and the outcomes that lead to each."""
    rows = ["| code | `reason` in `--json` | outcome | meaning |", "| --- | --- | --- | --- |"]
    for code in sorted(set(EXIT.values())):
        endings = [kind for kind, its in EXIT.items() if its == code]
        names = ", ".join(f"`{kind.__name__}`" for kind in endings)
        meaning = " ".join(dict.fromkeys(_first_sentence(kind) for kind in endings))
        word = f"`{REASON[code]}`" if code in REASON else "–"
        rows.append(f"| {code} | {word} | {names} | {meaning} |")
    return "\n".join(rows) + "\n"


def settings() -> str:
    """The settings of `serve`: flag, variable, default."""
    rows = ["| flag | variable | in the server file | default |", "| --- | --- | --- | --- |"]
    in_file = set(server_file.KEYS)
    for name, field in ServeSettings.model_fields.items():
        if name == "server":
            continue
        flag = "`MODULE:CLASS`" if name == "materializer" else f"`--{name.replace('_', '-')}`"
        default = "below `$XDG_STATE_HOME/cfgsync`" if name == "store" else _default(field.default)
        key = f"`{name}`" if name in in_file else "–"
        rows.append(f"| {flag} | `{variable_of_field(name).name}` | {key} | {default} |")
    return "\n".join(rows) + "\n"


def variables() -> str:
    """The flags that can also be set by a variable, without those of `serve`."""
    found: dict[str, set[str]] = {}
    flags: dict[str, str] = {}
    for path, command in commands():
        for parameter in command.params:
            name = getattr(parameter, "envvar", None)
            if isinstance(name, str):
                found.setdefault(name, set()).add(path)
                flags[name] = max(parameter.opts, key=len)
    rows = ["| variable | flag | of |", "| --- | --- | --- |"]
    for name in sorted(found):
        of = ", ".join(f"`{path}`" for path in sorted(found[name]))
        rows.append(f"| `{name}` | `{flags[name]}` | {of} |")
    return "\n".join(rows) + "\n"


def statuses() -> str:
    """Each outcome with its status and its `code`."""
    rows = ["| outcome | status | `code` |", "| --- | --- | --- |"]
    for kind, status in sorted(STATUS.items(), key=lambda one: (one[1], one[0].__name__)):
        code = f"`{CODE[status]}`" if status in CODE else "–"
        rows.append(f"| `{kind.__name__}` | {status} | {code} |")
    return "\n".join(rows) + "\n"


class _Nothing:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        return NotReady()


_CALLERS: Final = {
    "public": "every client that reaches the server",
    "node": "a node, by its secret",
    "reader": "every client that reaches the server; with tokens required, a reader or an operator with a token",
    "writer": "a writer or an operator with a token",
    "operator": "an operator, over the admin socket or with a token",
}


def routes() -> str:
    """Every route but the two that the page shows by hand, and `/openapi.json`."""
    rows = ["| route | method | body up to | for |", "| --- | --- | --- | --- |"]
    source = RegistrationConfigSource(_Nothing())
    tokens = Tokens(credentials(MemoryStore()))
    routes = [
        *page_routes(source, source, tokens=tokens),
        *metrics_routes(Observed(RequestCounts(LocalOperators()))),
        *fleet_routes(source, source, WatchStreams(source), evict=source.evict),
        *token_routes(tokens),
    ]
    for route in routes:
        if route.path not in ("/register", "/node"):
            size = f"{route.body.at_most // 1024} KiB" if route.body is not None else "–"
            rows.append(f"| `{route.path}` | {route.method} | {size} | {_CALLERS[route.access]} |")
    return "\n".join(rows) + "\n"


def limits() -> str:
    """The limits on sizes and times, read from the modules that apply them."""
    kib, mib = 1024, 1024 * 1024
    rows = [
        ("body of a request", f"{wire_limits.MAX_BODY_BYTES // kib} KiB"),
        ("time for a body to arrive", f"{BODY_SECONDS:g} s"),
        ("headers", f"{connections.MAX_HEADERS}, each of {connections.MAX_LINE_BYTES // kib} KiB"),
        ("idle connection", f"{connections.KEEP_ALIVE_SECONDS:g} s"),
        (
            "metadata",
            f"{wire_limits.MAX_METADATA_BYTES // kib} KiB, {wire_limits.MAX_METADATA_DEPTH} levels deep",
        ),
        ("payload, on the node", f"{wire_limits.MAX_PAYLOAD_BYTES // mib} MiB"),
        ("one file", f"{wire_limits.MAX_FILE_BYTES // mib} MiB"),
        ("files of a node", f"{wire_limits.MAX_FILES:,}"),
        ("depth of a path", f"{paths.MAX_DEPTH} components"),
        ("a reason", f"{wire_limits.MAX_NOT_READY_CHARACTERS:,} characters"),
    ]
    return "\n".join(["| what | limit |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)]) + "\n"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, tuple):
        return " ".join(f"`{one}`" for one in value)
    return "–" if value is None else f"`{value}`"


def _first_sentence(kind: type) -> str:
    text = " ".join((inspect.getdoc(kind) or "").split())
    return re.split(r"(?<=[.:]) ", text)[0].rstrip(":").replace("|", "or")


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "command_line": command_line,
    "python_api": python_api,
    "drop_ins": drop_ins,
    "exit_codes": exit_codes,
    "settings": settings,
    "variables": variables,
    "statuses": statuses,
    "routes": routes,
    "limits": limits,
}

WRITTEN: Final = re.compile(r"^<!-- generated: (\w+) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
PAGES: Final = Path(__file__).parent / "reference"


def written(text: str) -> str:
    """A page with its generated parts as the program says them now."""
    return WRITTEN.sub(
        lambda match: f"<!-- generated: {match[1]} -->\n\n{SECTIONS[match[1]]().strip()}\n\n<!-- end -->",
        text,
    )


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
        del os.environ[name]
    for page in PAGES.glob("*.md"):
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
