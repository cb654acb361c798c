"""A server that is open to other machines without TLS or without authentication shows it in its log and its status."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import UNSET
from msgspec.structs import replace

from cfgsync_core import FleetStatus, NodeStatus
from cfgsync_core.log_events import event
from cfgsync_core.wire import StatusSource, TlsStatus

from ..errors import InputError

InsecureOption: TypeAlias = Literal["no-tls", "no-auth"]

log = logging.getLogger("cfgsync")

_BANNER: Final[dict[InsecureOption, str]] = {
    "no-tls": "nothing is encrypted, and anyone on the network path can read secrets and files",
    "no-auth": "anyone who can reach it may join, and take a name from a node with another secret",
}
_NEEDED: Final[dict[InsecureOption, str]] = {"no-tls": "TLS", "no-auth": "a rule for which nodes may join"}


def is_loopback(host: str | Sequence[str]) -> bool:
    """True when only this machine can reach `host`, each one of several."""
    return not open_hosts(host)


def open_hosts(host: str | Sequence[str]) -> list[str]:
    """Those of the hosts that other machines can reach."""
    return [one for one in ([host] if isinstance(host, str) else host) if not _is_loopback(one)]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def lacking_of(host: str | Sequence[str], *, no_tls: bool, no_auth: bool) -> tuple[InsecureOption, ...]:
    """The protections that a server on `host` lacks when its operator waives these; none on loopback."""
    waived: dict[InsecureOption, bool] = {"no-tls": no_tls, "no-auth": no_auth}
    return () if is_loopback(host) else tuple(option for option, is_waived in waived.items() if is_waived)


def refuse_insecure(
    host: str | Sequence[str],
    lacking: Sequence[InsecureOption],
    spelled: Callable[[list[InsecureOption]], str],
    *,
    certificate: str,
    has_tls: bool,
    has_rule: bool,
) -> None:
    """Off loopback a server needs TLS and a rule for which nodes may join, unless `lacking` says that its operator waives
    them. Raises `InputError`, whose hint has the exact text to add: `certificate` says how one is given, and what waives
    the protections is `spelled` by the caller."""
    has = [*lacking, *(["no-tls"] if has_tls else ()), *(["no-auth"] if has_rule else ())]
    missing = [option for option in _NEEDED if option not in has]
    make = (
        f"make a certificate (cfgsync tls init) and give {certificate}; or, " if "no-tls" in missing else ""
    )
    if (hosts := open_hosts(host)) and missing:
        raise InputError(
            f"host {' and '.join(hosts)} is open to other machines, without {' and without '.join(map(_NEEDED.__getitem__, missing))}",
            f"{make}if you trust its network with that, add {spelled(missing)}",
        )


def warn(host: str | Sequence[str], lacking: tuple[InsecureOption, ...]) -> None:
    """Log one warning for each protection that is lacking."""
    for option in lacking:
        log.warning(
            "INSECURE (--insecure-%s): %s is open to other machines; %s",
            option,
            " and ".join(open_hosts(host)),
            _BANNER[option],
            extra=event("insecure", what=option),
        )


def warn_of_any_proxy(networks: Sequence[str]) -> None:
    """Log that a network of trusted proxies holds every address."""
    for network in networks:
        if ipaddress.ip_network(network).prefixlen == 0:
            log.warning(
                "--trusted-proxy %s is every address: any client can write another one into this log; give the proxy's address",
                network,
                extra=event("any_proxy", network=network),
            )


def warn_of_open_documents() -> None:
    """Log that every program of this machine may read and write the documents."""
    log.warning(
        "OPEN DOCUMENTS (--open-documents): every program and user of this machine may read and write them; for development",
        extra=event("open_documents"),
    )


def exposes_errors(asked: bool, host: str | Sequence[str]) -> bool:
    """Whether nodes and `/status` get the words of a failure: if `asked`, and only this machine can reach `host`."""
    if asked and not is_loopback(host):
        log.warning(
            "--expose-errors is ignored: %s is open to other machines, and the words of a failure may hold a secret;"
            " this log has them",
            " and ".join(open_hosts(host)),
            extra=event("expose_errors_ignored"),
        )
        return False
    return asked


class ProtectionStatus(StatusSource):
    """The status of another source, with how its server is protected: `insecure`, `tls`, and `rebound`, the names that another
    secret has taken."""

    def __init__(
        self,
        source: StatusSource,
        lacking: tuple[InsecureOption, ...],
        rebound: Mapping[str, int],
        tls: Callable[[], TlsStatus] | None = None,
    ) -> None:
        self._source = source
        self._lacking = lacking or UNSET
        self._rebound = rebound
        self._tls = tls

    def fleet(self, limit: int, after: str) -> FleetStatus:
        fleet = self._source.fleet(limit, after)
        return replace(
            fleet,
            insecure=self._lacking,
            tls=UNSET if self._tls is None else self._tls(),
            nodes=tuple(map(self._marked, fleet.nodes)),
        )

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        return [self._marked(node) for node in self._source.nodes(limit, after)]

    def node(self, identifier: str) -> NodeStatus:
        return self._marked(self._source.node(identifier))

    async def ping(self) -> None:
        await self._source.ping()

    def _marked(self, node: NodeStatus) -> NodeStatus:
        many = self._rebound.get(node.identifier)
        return replace(node, rebound=many) if many else node
