"""A node replaces its secret. At each moment the secret on its disk is one that the server accepts, whenever it is killed:

the new one is on disk beside the old one before the server gets its hash; it takes the old one's place when the server has
confirmed that it accepts both; and the server forgets the old one only when the new one was used.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256

from cfgsync_artifacts import DiskError, on_disk
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
        with _alone(state):
            kept = state.kept_secret()
            if kept is not None and kept != secret:
                notice("another process of this node has just replaced its secret, so this one does not")
                return kept
            fresh = state.next_secret()
            hashed = sha256(fresh.encode()).hexdigest()
            request = register_request(registration, secret, WITHIN, keepalive=keepalive, next_secret=hashed)
            answer = transport.send(request)
            if answer.headers.get(NEXT_SECRET.lower()) == hashed:
                state.adopt_next_secret()
                return fresh
            why = _not_confirmed(answer.status)
    except BlockingIOError:
        why = "another process of this node is replacing it"
    except Lost as error:
        why = f"no answer from the server: {error}"
    except DiskError as error:
        why = f"{error}; {error.hint}"
    notice(f"the node keeps its old secret: {why}")
    return secret


@contextmanager
def _alone(state: NodeState) -> Iterator[None]:
    """Of several processes with one secret, one at a time: the server knows one next secret, and a second one would take the place
    of one that is on disk already. Who opens the file later finds another one there. Raises `BlockingIOError`."""
    with on_disk(state.secret_path):
        held = os.open(state.secret_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def _not_confirmed(status: int) -> str:
    if 200 <= status < 300:
        return "the server took the registration and not the new secret: does it know secrets, or has it taken another new one?"
    if status in (401, 403, 409):
        return "the server refuses the old one: another process of this node may have replaced it"
    return f"the server has not confirmed the new one, and answered HTTP {status}"
