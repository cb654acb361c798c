"""One line in the log for each operator's call, and for each refused one: the principal, the call, its target, the address."""

from __future__ import annotations

import logging

from cfgsync_core.log_events import event
from cfgsync_core.server import Call, Reply, Route
from cfgsync_core.text import plain

log = logging.getLogger("cfgsync")


def record(route: Route, call: Call, reply: Reply, caller: str = "") -> None:
    """Log an operator's call and the status of its reply. `caller` is the principal, where the call has none."""
    who = caller or principal_of(call)
    target = target_of(call)
    address = "admin socket" if call.peer is not None else plain(call.address, 60)
    refused = reply.status in (401, 403)
    log.log(
        logging.WARNING if refused else logging.INFO,
        "operator call %s%s by %s from %s: %s %d",
        f"{route.method} {route.path}",
        f" ({target})" if target else "",
        who,
        address,
        "refused," if refused else "answered",
        reply.status,
        extra=event(
            "operator_call",
            principal=who,
            call=f"{route.method} {route.path}",
            target=target,
            address=address,
            status=reply.status,
        ),
    )


def principal_of(call: Call) -> str:
    """The caller as text: the name of a token, or the user at the other end of the admin socket."""
    if call.peer is not None:
        return f"user {call.peer}"
    role, name = call.principal.role, call.principal.name
    return f"{role} {name}".rstrip() if role != "anyone" else "anyone"


def target_of(call: Call) -> str:
    """What the call is about, as far as it names it: a node, a token."""
    named = [
        *call.names.values(),
        *(getattr(call.value, key, "") for key in ("identifier", "name", "covers", "which")),
    ]
    return plain(" ".join(filter(None, named)), 200)
