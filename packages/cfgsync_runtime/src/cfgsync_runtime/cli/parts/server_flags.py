"""The flags of the commands that ask a server: its URL and what verifies it, the admin socket and where it may be, a token."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from cfgsync_core import InvalidServerUrl, InvalidTrust, ServerUrl, Trust

from ...access.admin_socket import places
from ...access.insecure import is_loopback
from ...node.network.addresses import resolve


class AskedServer(msgspec.Struct, frozen=True):
    """The server that a command asks: its URL with what verifies it, and how the caller proves its rights there."""

    url: ServerUrl = ServerUrl("http", "127.0.0.1", 4400)
    admin_socket: str | None = None
    token_file: str | None = None


DEFAULT_SERVER: Final = AskedServer()
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def made_of_flags(
    name: str, flags: Sequence[Parameter], make: Callable[..., Any], last: Sequence[Parameter] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a command's function: its parameter `name` is what `make` makes of the values of `flags` and `last`. Help
    shows `last` after all flags but `--json`."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def reading(**given: Any) -> None:
            values = {flag.name: given.pop(flag.name, flag.default) for flag in (*flags, *last)}
            command(**{name: make(**values)}, **given)

        parameters: list[Parameter] = []
        for one in signature(command, eval_str=True).parameters.values():
            own = one.replace(kind=Parameter.KEYWORD_ONLY)
            parameters += [own] if one.name != name else flags
        end = len(parameters) - (parameters[-1].name == "json")
        parameters[end:end] = last
        reading.__dict__["__signature__"] = Signature(parameters)
        return reading

    return decorated


def flag(
    name: str, default: str | None, metavar: str, text: str, spelled: str = "", kind: Any = str
) -> Parameter:
    """One flag of a command."""
    option = typer.Option(spelled or f"--{name.replace('_', '-')}", metavar=metavar, help=text)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, option])


_SERVER_FLAGS: Final = (
    flag(
        "server",
        str(DEFAULT_SERVER.url),
        "URL",
        "The server's URL, or several with commas: another is asked when one does not answer.",
    ),
    flag("ca_file", None, "FILE", "The CA certificates that verify an https server."),
    flag(
        "ca_hash",
        None,
        "sha256:HEX",
        "The hash of the server's CA, instead: cfgsync tls show prints it; repeat to trust another one too.",
        kind=list[str],
    ),
)

_ADMIN_SOCKET: Final = flag(
    "admin_socket", None, "PATH", "The server's admin socket.  [default: by the port of --server]"
)
_TOKEN_FILE: Final = flag(
    "token_file",
    None,
    "FILE",
    "A token (cfgsync token create --role …), sent to --server instead of the admin socket.",
)


def _parsed(server: str, ca_file: str | None, ca_hash: list[str] | None, **caller: str | None) -> AskedServer:
    given = "--ca-file" if ca_file else "--ca-hash"
    try:
        at = ServerUrl.parse_several(server)
        trust = Trust.parse(ca_file or "", ",".join(ca_hash or ()))
    except InvalidServerUrl as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error
    except InvalidTrust as error:
        raise typer.BadParameter(str(error), param_hint=given) from error
    for one in at.each if trust else ():
        if one.scheme == "http" and not is_loopback(one.host):
            raise typer.BadParameter(f"it verifies an https server, and {one} is not https", param_hint=given)
    return AskedServer(at.trusting(trust), **caller)


asking_a_server: Final = made_of_flags("server", _SERVER_FLAGS, _parsed, (_ADMIN_SOCKET, _TOKEN_FILE))
"""For a command with a parameter `server`, an `AskedServer`."""
asking_by_socket: Final = made_of_flags("server", _SERVER_FLAGS, _parsed, (_ADMIN_SOCKET,))
"""The same without `--token-file`."""


def places_of(server: ServerUrl) -> list[str]:
    """Where the admin sockets of those of its servers may be that are on this machine."""
    return [place for one in server.each if _is_here(one) for place in places(one.port)]


def _is_here(server: ServerUrl) -> bool:
    """True for an address of this machine: the kernel sends to it from itself."""
    if is_loopback(server.host):
        return True
    with suppress(OSError):
        for address in resolve(server, socket.SOCK_DGRAM):
            with socket.socket(address.family, address.kind, address.proto) as probe:
                probe.connect(address.place)
                if probe.getsockname()[0] == probe.getpeername()[0]:
                    return True
    return False
