"""The server's log: one line on stderr for each outcome, as text or as JSON; never a body, metadata or a secret.

There is no access log: it would cost half of the requests per second, and `/metrics` counts them. Lines about one node
have level debug, which is off here. What the application logs and prints is in the same log.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

import msgspec

from cfgsync_core.log_events import event, event_of
from cfgsync_core.text import as_unicode, rfc3339

from .lines import RECORD, Lines

OURS: Final = ("cfgsync", "cfgsync_runtime", "asyncio")
_BEGIN: Final = '{"ts":"'


class TextLines(logging.Formatter):
    """`2026-01-31T08:00:00.123Z INFO published generation 1 (3 nodes)`, then a traceback if there is one. A line of the
    application has its logger: `… WARNING app: …`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        logger = "" if record.name.partition(".")[0] in OURS else f"{record.name}: "
        line = f"{_at(record)} {record.levelname} {logger}{record.getMessage()}"
        return visible("\n".join(filter(None, (line, _traceback(self, record)))))


class JsonLines(logging.Formatter):
    """One object a line: `ts` (RFC 3339, UTC), `level`, `event` (a name that does not change between versions), `msg` (for
    a person), `logger`, `error` (a traceback) if there is one, and the event's `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        name, facts = event_of(record)
        line: dict[str, object] = {
            "ts": _at(record),
            "level": record.levelname.lower(),
            "event": name,
            "msg": as_unicode(record.getMessage()),
            "logger": record.name,
        }
        if facts:
            line["facts"] = facts
        if error := _traceback(self, record):
            line["error"] = error
        return msgspec.json.encode(line).decode()


class _Records(logging.StreamHandler[TextIO]):
    """Marks where a record begins, for `read_lines` in the server."""

    def format(self, record: logging.LogRecord) -> str:
        return RECORD + super().format(record)


def log_to_stderr(as_json: bool = False) -> Lines:
    """Write the log of cfgsync to stderr from now on; call `end()` of the result last."""
    lines = Lines()
    lines.setFormatter(JsonLines() if as_json else TextLines())
    # no line shows where it was logged: not looked up, a record costs half (Python's logging HOWTO, "Optimization")
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # Python 3.12
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [lines]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return lines


def log_of_application(as_json: bool = False, handler: logging.Handler | None = None) -> None:
    """Write what the application in this process logs, from level info on, as the server writes its own log: to `handler`,
    else to stderr, which the server reads. `logging.basicConfig(level=…)` sets the level only; with other arguments it works as always."""
    if handler is None:
        handler = _Records(sys.stderr)
        handler.setFormatter(JsonLines() if as_json else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    python = logging.basicConfig

    def basic_config(**options: Any) -> None:
        if options.keys() & {"filename", "stream", "handlers", "force"}:
            python(**options)
        elif options.get("level") is not None:
            root.setLevel(options["level"])

    logging.basicConfig = basic_config


def passing_on(lines: Lines, as_json: bool) -> Callable[[str], None]:
    """A function that writes what the materializer's process prints: `visible`, but with `as_json` one object for each line
    that is not one of its log."""
    if not as_json:
        return lambda text: lines.pass_on(visible(text))

    def pass_on(text: str) -> None:
        lines.pass_on(
            "\n".join(line if line.startswith(_BEGIN) else _printed(line) for line in text.split("\n"))
        )

    return pass_on


def visible(text: str) -> str:
    """The text with every control character but tabs and newlines as `\\x1b`: a node's metadata that an application prints
    must move no terminal's cursor, and overwrite no line of the log."""
    return _UNUSUAL.sub(_escaped, text.replace("\r\n", "\n"))


_UNUSUAL: Final = re.compile(r"[^\n\t -~]")


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else found[0].encode("unicode_escape").decode()


def _printed(line: str) -> str:
    record = logging.LogRecord("materializer", logging.INFO, __file__, 0, "%s", (line,), None)
    record.__dict__.update(event("printed"))
    return JsonLines().format(record)


def _at(record: logging.LogRecord) -> str:
    ms = round(record.created * 1000)
    return f"{rfc3339(ms // 1000)[:-1]}.{ms % 1000:03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback of the record's exception, or the one that `extra={"traceback": …}` gave it."""
    given: str = getattr(record, "traceback", "")
    return formatter.formatException(record.exc_info) if record.exc_info else given
