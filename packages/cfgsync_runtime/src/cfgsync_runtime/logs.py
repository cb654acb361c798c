"""How a server speaks: one line an event on stderr, for a person or as JSON; never a body, never a secret."""

from __future__ import annotations

import logging
import sys

import msgspec


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words: dict[str, object] = {
            "ts": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            words["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(words).decode()


def log_to_stderr(as_json: bool = False) -> None:
    """Send the log of cfgsync to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("cfgsync", "cfgsync_runtime", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
