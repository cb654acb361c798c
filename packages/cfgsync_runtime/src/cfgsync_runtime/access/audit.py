"""One line in the log for each operator's call, and for each refused one: the principal, the call, its target, the address."""

from __future__ import annotations

import logging

from cfgsync_core.log_events import event
from cfgsync_core.server import Call, Reply, Route
from cfgsync_core.text import plain

log = logging.getLogger("cfgsync")


def record(route: Route, call: Call, reply: Reply | None) -> None:
    """Log a call and the status of its reply, None when its caller went away before."""
    who = principal_of(call)
    access = "operator" if route.access == "operator" else "writer"
    target = target_of(route, call)
    address = call.caller_address
    if reply is None:
        became = "its caller went away before the answer"
    else:
        became = f"{'refused,' if reply.status in (401, 403) else 'answered'} {reply.status}"
    log.log(
        logging.WARNING if reply is None or reply.status in (401, 403) else logging.INFO,
        "%s call %s%s by %s from %s: %s",
        access,
        f"{route.method} {route.path}",
        f" ({target})" if target else "",
        who,
        address,
        became,
        extra=event(
            f"{access}_call",
            principal=who,
            call=f"{route.method} {route.path}",
            target=target,
            address=address,
            status=None if reply is None else reply.status,
        ),
    )


def principal_of(call: Call) -> str:
    """The caller as text: the name of a token, or the user at the other end of the admin socket."""
    if call.peer is not None:
        return f"user {call.peer}"
    role, name = call.principal.role, call.principal.name
    if role != "anyone":
        return f"{role} {name}".rstrip()
    return f"join token {name}" if name else "anyone"


def target_of(route: Route, call: Call) -> str:
    """What the call is about, as far as it names it: a node, a token, a document and its scope."""
    named = [
        "" if route.scope is None else str(route.scope(call)),
        *(text for name, text in call.names.items() if name not in ("app", "env")),
        *(getattr(call.value, key, "") for key in ("identifier", "name", "covers", "which")),
    ]
    return plain(" ".join(filter(None, named)), 200)
