"""The line that uses a new token on another machine: where its server is, what verifies it there, and what only the operator knows."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from cfgsync_core import ServerUrl
from cfgsync_core.node import CONNECT_WITHIN, hash_of, looking, shown_chain

from ....access.insecure import is_loopback


class Answered(NamedTuple):
    """What the server that made a token says of itself: the URLs that it listens on, the hash of its CA, and the names of its
    certificate. `by_socket`: it was asked by its admin socket, and not at its URL."""

    listens: Sequence[str]
    scheme: str
    ca_hash: str
    names: Sequence[str]
    by_socket: bool


class Way(NamedTuple):
    """How another machine reaches the server: URLs and flags for a shell, and notes for the operator."""

    flags: str
    notes: tuple[str, ...] = ()


def way_to(asked: ServerUrl, server: Answered) -> Way:
    """The way to the server for other machines: by the URLs that were given, unless they are for this machine only."""
    url, notes = (
        (",".join(map(str, asked.each)), ()) if not is_loopback(asked.host) else _found(asked, server)
    )
    verified, more = _verified(server, url, asked)
    return Way(url + verified, (*notes, *more))


def paste_line(role: str, name: str, covers: str, token: str, way: str) -> str:
    """A line for a shell. `printf` is the shell's own, so that no list of processes shows the token."""
    file = f"{name}.token"
    kept = f"(umask 077 && printf '%s\\n' {token} >{shlex.quote(file)})"
    if role == "writer":
        return kept
    if role != "join":
        return f"{kept} && cfgsync status --server {way} --token-file {shlex.quote(file)}"
    node = '"$(hostname)"' if set("*?") & set(covers) else shlex.quote(covers)
    return f"{kept} && cfgsync fetch --server {way} --token-file {shlex.quote(file)} --id {node} --out files"


def _found(asked: ServerUrl, server: Answered) -> tuple[str, tuple[str, ...]]:
    """The URL of a server that was asked at a loopback address, and a note about it: this machine's name, or the first one
    that the certificate has for others, is a guess."""
    listens = list(map(ServerUrl.parse, server.listens))
    others = [one for one in listens if not is_loopback(one.host)]
    if listens and not others:
        first = listens[0]
        if server.names and first.host not in server.names:
            first = replace(first, host=next(filter(is_loopback, server.names), first.host))
        return str(first), (
            f"the server listens on {listens[0].host} only, so the line works on this machine; give --server URL with the"
            " address that other machines use, such as a proxy's",
        )
    port = others[0].port if others else asked.port
    host = socket.gethostname()
    for_others = [name for name in server.names if "*" not in name and not is_loopback(name)]
    if for_others and host not in for_others:
        host = for_others[0]
    elif others and server.scheme == "http" and others[0].host not in ("0.0.0.0", "::"):
        host = others[0].host
    url = f"{server.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return url, (f"{url} is a guess; give --server URL if other machines reach this server by another name",)


def _verified(server: Answered, url: str, asked: ServerUrl) -> tuple[str, tuple[str, ...]]:
    """The flag that verifies the server on another machine, and a note where the operator must see to that."""
    if "https:" not in url:
        return "", ()
    trust = asked.trust
    if trust.ca_hash:
        return "".join(f" --ca-hash {one}" for one in trust.ca_hash.split(",")), ()
    if trust.ca_file:
        hashes = {_ca_in(trust.ca_file, one) for one in asked.each if one.scheme == "https"}
        if len(hashes) == 1 and (found := hashes.pop()):
            return f" --ca-hash {found}", ()
        file = shlex.quote(trust.ca_file)
        return f" --ca-file {file}", (
            f"copy {file} to where the line is used: the server does not show its CA",
        )
    if server.ca_hash:
        return f" --ca-hash {server.ca_hash}", ()
    if not server.by_socket:
        return "", ()  # an authority of this machine has verified it, just now
    return "", (
        f"what verifies {url} is not known here: unless its certificate is of a public CA, add --ca-hash"
        " (cfgsync tls show), or --ca-file with its CA",
    )


def _ca_in(file: str, server: ServerUrl) -> str:
    """The hash of the CA that a server shows, if it is in `file`; "" when it shows none of these, or does not answer."""
    import ssl

    try:
        with (
            socket.create_connection((server.host, server.port), CONNECT_WITHIN) as opened,
            looking().wrap_socket(opened, server_hostname=server.host) as looked,
        ):
            own, *authorities = shown_chain(looked)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(file)
    except (OSError, ValueError):  # also one that shows none
        return ""
    known = set(map(hash_of, context.get_ca_certs(binary_form=True)))
    return next((found for der in reversed(authorities or [own]) if (found := hash_of(der)) in known), "")
