"""The address and scheme of a client behind proxies: for logs and what a browser is told, never for rights, since a header is
only text."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

HEADER: Final = "X-Forwarded-For"
SCHEME: Final = "X-Forwarded-Proto"


class TrustedProxies:
    """The networks whose addresses are proxies of the operator. Raises `ValueError` for a text that is not a network."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]
        self._trusts = lru_cache(maxsize=1024)(self._is_trusted)

    def client(self, peer: str, headers: CIMultiDictProxy[str]) -> str:
        """The address of the client whose connection is from `peer`: the right-most one in `X-Forwarded-For` that is not a
        trusted proxy's. What is left of it, anyone may have written. What is no address ends the search."""
        if not self._networks or HEADER not in headers or not self._trusts(peer):
            return peer
        found = peer
        for text in reversed(",".join(headers.getall(HEADER)).split(",")):
            hop = _address(text)
            if hop is None:
                return found
            found = hop
            if not self._trusts(hop):
                break
        return found

    def scheme(self, peer: str, headers: CIMultiDictProxy[str]) -> Literal["", "http", "https"]:
        """The scheme by which the client came to the proxy at `peer`, which is a trusted one; "" when none says it, or several do."""
        if not self._networks or SCHEME not in headers or not self._trusts(peer):
            return ""
        said = ",".join(headers.getall(SCHEME)).strip().lower()
        return "https" if said == "https" else "http" if said == "http" else ""

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:  # the peer of a Unix socket
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


def _address(text: str) -> str | None:
    """The address in a hop, which may have a port; None for what is not an address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
