"""`--ip auto`: the address of this machine that routes to the server, found without sending a packet."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

from cfgsync_core import ServerUrl
from cfgsync_core.node import Lost
from cfgsync_core.text import cause

from .addresses import resolve


def own_address(server: ServerUrl, within: float, waiting: Callable[[str], None] = lambda _: None) -> str:
    """The address that the kernel chooses when a UDP socket is connected to the server; IPv4 if there is a choice.

    An unresolved name or a network that is down is tried again for `within` seconds: a node often starts before them.
    Raises `Lost`.
    """
    until = time.monotonic() + within
    pause, said = 0.1, ""
    while True:
        try:
            return _routed(server)
        except OSError as error:
            why = f"no route to {server.host}: {cause(error)}"
            left = until - time.monotonic()
            if left <= 0:
                raise Lost(why) from error
            if why != said:
                said = why
                waiting(why)
            time.sleep(min(left, random.random() * pause))
            pause = min(pause * 2, 1.0)


def _routed(server: ServerUrl) -> str:
    why: OSError = OSError("the name has no address")
    for one in server.each:
        try:
            found = resolve(one, socket.SOCK_DGRAM)
        except OSError as error:
            why = error
            continue
        for address in sorted(found, key=lambda one: one.family != socket.AF_INET):
            with socket.socket(address.family, address.kind, address.proto) as probe:
                try:
                    probe.connect(address.place)
                    return str(probe.getsockname()[0]).partition("%")[0]
                except OSError as error:
                    why = error
    raise why
