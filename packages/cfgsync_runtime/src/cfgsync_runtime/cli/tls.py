"""`cfgsync tls …`: make the certificate of a server and its CA, or show one."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import msgspec
import typer

from cfgsync_core import InvalidServerUrl, ServerUrl
from cfgsync_core.node import CONNECT_WITHIN, looking, shown_chain, why_unverified
from cfgsync_core.text import cause

from ..errors import InputError, MachineRefused
from .app import PLAIN
from .parts.messages import NoAnswer, fail
from .parts.server_flags import AsJson

app = typer.Typer(no_args_is_help=True, **PLAIN)


@app.callback()
def group() -> None:
    """Make the certificate of a server and its CA, or show one.

    \b
    Examples:
      cfgsync tls init --host boot.example.net
      cfgsync tls show https://boot.example.net:4400
    """


@app.command(short_help="Make a CA and a server's certificate, or renew that.")
def init(
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name or address that nodes give to --server; may be repeated."),
    ] = None,
    directory: Annotated[str, typer.Option("--dir", metavar="DIR", help="Where the files go.")] = ".",
) -> None:
    """Make a CA (10 years) and a server's certificate (397 days): ca.pem, ca.key, server.pem, server.key.

    Nothing is overwritten. Run again, it renews server.pem from the CA and the key that are there, for the same names
    or for new ones; a running server takes it without a restart. Keep ca.key apart from the server: its holder can
    answer in the server's place.

    \b
    Examples:
      cfgsync tls init --host boot.example.net --host 10.0.0.5
      cfgsync tls init --dir /etc/cfgsync

    Exit codes: 0 made; 1 a file is in the way, or cannot be read or written; 2 usage.
    """
    from ..access.tls_authority import init, is_host

    host = [name.removeprefix("[").removesuffix("]") for name in host or ()]
    for name in host:
        if not is_host(name):
            raise typer.BadParameter(
                f"{name[:100]!r} is not a host name or an address (give it without port or https://)",
                param_hint="--host",
            )
    try:
        made = init(directory, host)
    except MachineRefused as error:
        raise typer.Exit(fail(1, str(error), error.hint)) from error
    print(f"wrote {', '.join(os.path.basename(file) for file in made.files)} in {directory}")
    print(f"server.pem is for {', '.join(made.names)}, until {made.ends}")
    if made.gone:
        print(f"no longer for {', '.join(made.gone)}: a node that uses such a name will refuse the server")
    print(f"--ca-hash {made.ca_hash}")


@app.command(short_help="Names, end and hash of a server's certificate.")
def show(
    of: Annotated[str, typer.Argument(metavar="URL|FILE", help="A server, or certificates in PEM.")],
    json: AsJson = False,
) -> None:
    """The names and the end of a certificate, and the hash of its CA for --ca-hash.

    What a URL shows is not verified: compare the hash with what this prints for the file on the server's machine.

    \b
    Examples:
      cfgsync tls show server.pem
      cfgsync tls show https://boot.example.net:4400

    Exit codes: 0 shown, 2 no such file or no certificate in it, 7 no TLS server there.
    """
    from cryptography import x509

    from ..access.tls_facts import ca_hash_of, facts_of

    if "://" in of or (not os.path.exists(of) and ":" in of):
        chain = [x509.load_der_x509_certificate(der) for der in _shown_by(of)]
    else:
        try:
            with open(of, "rb") as file:
                chain = x509.load_pem_x509_certificates(file.read())
        except OSError as error:
            raise InputError(f"{of}: {cause(error)}", "give a server's URL, or a file in PEM") from error
        except ValueError as error:
            raise InputError(
                f"{of}: there is no certificate in PEM in it", "a key has none: give server.pem"
            ) from error
    own, *others = [facts_of(one) for one in chain]
    ca_hash = ca_hash_of(chain)
    if json:
        print(msgspec.json.encode({"certificate": own, "ca_hash": ca_hash, "chain": others}).decode())
        return
    print(f"names   {', '.join(own.names) or '-'}")
    print(f"begins  {own.begins}")
    print(f"ends    {own.ends} ({own.days_left} days left)")
    print(f"issuer  {own.issuer}")
    print(
        f"hash    {ca_hash or 'none: it comes without its CA, so give nodes --ca-file, or nothing for a public CA'}"
    )


def _shown_by(url: str) -> list[bytes]:
    """What a server shows, unverified. Raises `NoAnswer`."""
    try:
        at = ServerUrl.parse(url if "://" in url else f"https://{url}")
    except InvalidServerUrl as error:
        raise typer.BadParameter(str(error), param_hint="URL") from error
    try:
        with (
            socket.create_connection((at.host, at.port), CONNECT_WITHIN) as opened,
            looking().wrap_socket(opened, server_hostname=at.host) as looked,
        ):
            return shown_chain(looked)
    except OSError as error:
        why = why_unverified(error, at.host, at.trust) or cause(error)
        raise NoAnswer(7, f"no certificate from {at}: {why}", "is there a server with TLS?") from error
