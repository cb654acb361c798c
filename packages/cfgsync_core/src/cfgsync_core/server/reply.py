"""The replies that every feature gives: errors, and what an exception means."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cfgsync_artifacts import CfgsyncError

from ..log_events import event
from ..wire.protocol import CODE, STATUS, encode_error
from .route import NOTHING, Reply

RETRY_AFTER_SECONDS = 1

log = logging.getLogger("cfgsync")


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] = NOTHING) -> Reply:
    """An error reply, with the error body that all routes share."""
    return Reply(status, (encode_error(code, message),), headers)


def unavailable(message: str) -> Reply:
    """503: the same request may be sent again soon."""
    return refusal(503, "unavailable", message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def failure(error: BaseException) -> Reply:
    """The reply to an exception: its status if it has one, else 500 without details."""
    for kind, status in STATUS.items():
        if isinstance(error, kind) and isinstance(error, CfgsyncError):
            if status == 503:
                return unavailable(str(error))
            return refusal(status, CODE[status], str(error))
    log.error("a request failed: %s", type(error).__name__, exc_info=error, extra=event("request_failed"))
    return refusal(500, "internal", "the server failed; its log says why")
