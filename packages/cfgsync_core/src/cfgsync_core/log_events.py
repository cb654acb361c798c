"""The event of a log line, for machines: a name that never changes, and facts.

`log.info("…", …, extra=event("run", outcome="not_ready"))`: people read the message, `--json-logs` has both.
"""

from __future__ import annotations

from collections.abc import Mapping

Fact = str | int | float | bool | None


def event(name: str, **facts: Fact) -> dict[str, object]:
    """The `extra` of a log record. A fact is a name, a number or a reason, never a body, metadata or a secret."""
    return {"event": name, "facts": facts}


def event_of(record: object) -> tuple[str, Mapping[str, Fact]]:
    """The name and the facts of a `logging.LogRecord`; `"log"` and `{}` for a record without an event."""
    return getattr(record, "event", "log"), getattr(record, "facts", {})
