"""The server's log: one line on stderr for each outcome, as text or as JSON; never a body, metadata or a secret.

There is no access log: it would cost half of the requests per second, and `/metrics` counts them. Lines about one node
have level debug, which is off here.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from cfgsync_core.log_events import event_of


class JsonLines(logging.Formatter):
    """One object a line: `ts` (RFC 3339, UTC), `level`, `event` (a name that does not change between versions), `msg` (for
    a person), `logger`, `error` (a traceback) if there is one, and the event's `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        name, facts = event_of(record)
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": name,
            "msg": record.getMessage(),
            "logger": record.name,
        }
        if facts:
            line["facts"] = facts
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_to_stderr(as_json: bool = False) -> None:
    """Write the log of cfgsync to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    for name in ("cfgsync", "cfgsync_runtime", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
