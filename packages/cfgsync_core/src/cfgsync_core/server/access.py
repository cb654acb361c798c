"""Who asks: an operator sits at the server's own machine and calls it by its own name, with no page and no proxy between.

Until tokens exist, that is what an operator is (`protocol.md`, "Other routes").
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from functools import cache

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""What a proxy adds: behind one, everybody seems to be on this machine."""


def why_no_operator(remote: str | None, headers: Mapping[str, str], port: int) -> str | None:
    """Why an operator's route does not answer this request; None for an operator. `headers` ignores case; `port` is the
    one that this server listens on."""
    if "Origin" in headers:
        return "operator routes refuse requests that a web page made (`Origin`)"
    if not _is_this_machine(remote):
        return "operator routes answer on the server's own machine only: run the command there"
    if any(name in headers for name in FORWARDED):
        return "operator routes refuse requests that came through a proxy: run the command on the server's machine"
    if not is_own_name(headers.get("Host", "")):
        return (
            "operator routes answer to this machine's own names and addresses only (`Host`):"
            f" ask http://127.0.0.1:{port}"
        )
    return None


def is_own_name(host: str) -> bool:
    """True for a `Host` that no stranger's name server can point at this machine: an address, `localhost`, a name
    without a dot (nobody on the internet owns one), the machine's own name.

    A page whose name is made to lead here after it was loaded (DNS rebinding) is of the same origin to its browser; only
    the name that it calls tells it from a person.
    """
    name = host.strip().lower()
    if name.startswith("["):
        return _is_address(name[1:].partition("]")[0])
    name = name.partition(":")[0].rstrip(".")
    return "." not in name or name.endswith(".localhost") or _is_address(name) or name == _own_name()


def _is_this_machine(remote: str | None) -> bool:
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def _own_name() -> str:
    return socket.gethostname().lower().rstrip(".")
