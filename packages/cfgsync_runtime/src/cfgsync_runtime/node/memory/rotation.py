"""A node replaces its secret. At each moment the secret on its disk is one that the server accepts, whenever it is killed:

the new one is on disk beside the old one before the server gets its hash; it takes the old one's place when the server has
confirmed that it accepts both; and the server forgets the old one only when the new one was used.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from cfgsync_artifacts import DiskError
from cfgsync_core import NodeRegistration
from cfgsync_core.node import Lost, register_request
from cfgsync_core.wire import NEXT_SECRET

from ..network.transport import HttpTransport
from .state import NodeState

WITHIN = 10.0


def rotated(
    state: NodeState,
    secret: str,
    registration: NodeRegistration,
    transport: HttpTransport,
    keepalive: int | None,
    notice: Callable[[str], None],
) -> str:
    """The secret that counts from now on: a new one, or the old one with a `notice` of why it stays."""
    try:
        fresh = state.next_secret()
        hashed = sha256(fresh.encode()).hexdigest()
        request = register_request(registration, secret, WITHIN, keepalive=keepalive, next_secret=hashed)
        answer = transport.send(request)
        if answer.headers.get(NEXT_SECRET.lower()) != hashed:
            why = f"the server has not confirmed the new one (status {answer.status})"
        else:
            state.adopt_next_secret()
            return fresh
    except Lost as error:
        why = f"no answer from the server: {error}"
    except DiskError as error:
        why = f"{error}; {error.hint}"
    notice(f"the node keeps its old secret: {why}")
    return secret
