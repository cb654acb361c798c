"""How a node knows that a server is its own: by this machine's authorities, by a CA file, or by the hash of the server's CA.

Nothing is sent over a connection that is not verified. The only module that reads a private part of `ssl`: the chain of
certificates before it is verified, which is public from Python 3.13 on only.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..requests import Lost

if TYPE_CHECKING:
    import ssl  # 20 ms that a plain connection does not spend: each function loads it

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DER: Final = 2  # `_ssl.ENCODING_DER`
_pinned: Final[dict[str, bytes]] = {}
"""The certificates that were seen, by their hash: the hash says what they are, so they stay good for the whole process."""


class InvalidTrust(CfgsyncError, ValueError):
    """A CA file or a hash that cannot be used."""


class Trust(msgspec.Struct, frozen=True):
    """What certificates of a server are verified by: the CA certificates in `ca_file`; the CA or self-signed certificate whose
    `ca_hash` is `sha256:<64 hex>` of its DER, one of several with commas between them; an `ssl.SSLContext` of the program;
    without any, the authorities of this machine.
    """

    ca_file: str = ""
    ca_hash: str = ""
    context: Any = None

    @classmethod
    def parse(cls, ca_file: str = "", ca_hash: str = "", context: ssl.SSLContext | None = None) -> Self:
        """Raises `InvalidTrust`, for a file too that is absent or holds no certificate."""
        if (ca_file != "") + (ca_hash != "") + (context is not None) > 1:
            raise InvalidTrust("a CA file and a hash are both given: give one of them")
        hashes = [one.strip() for one in ca_hash.lower().split(",")] if ca_hash.strip() else []
        for one in hashes:
            if not _HASH.fullmatch(one):
                raise InvalidTrust(
                    f"{one[:100]!r} is not sha256: and 64 hexadecimal digits (`cfgsync tls show` prints it)"
                )
        made = cls(ca_file, ",".join(hashes), context)
        if ca_file:
            try:
                verifying(made)
            except OSError as error:
                raise InvalidTrust(
                    f"{ca_file}: {_file_fault(error)} (copy ca.pem from where `cfgsync tls init` made it)"
                ) from error
        return made

    def __bool__(self) -> bool:
        return self != Trust()


def verifying(trust: Trust, has_looked: bool = False) -> ssl.SSLContext | None:
    """The context that verifies a server. None while a certificate of `ca_hash` has not been seen: of several, the server may
    now show another one; after a look, those that were seen count. Raises `OSError` for a `ca_file` that cannot be read."""
    import ssl

    if trust.context is not None:
        return trust.context  # type: ignore[no-any-return]  # `parse` took nothing else
    if not trust:
        context = ssl.create_default_context()
    elif trust.ca_file:
        context = ssl.create_default_context(cafile=trust.ca_file)
    else:
        hashes = trust.ca_hash.split(",")
        known = [_pinned[one] for one in hashes if one in _pinned]
        if not known or (len(known) < len(hashes) and not has_looked):
            return None
        context = ssl.create_default_context(cadata=b"".join(known))
    if trust:
        # for the authority that was named, every Python takes the same certificates: also one that is made by
        # `openssl req -x509` alone, and an authority that another one has signed
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # only the names that it has as such (RFC 9525, 6.3)
    return context


def looking() -> ssl.SSLContext:
    """A context that verifies nothing: for a connection that only reads the server's certificates, and sends nothing."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def shown_chain(connected: ssl.SSLSocket | ssl.SSLObject) -> list[bytes]:
    """The certificates that a server has sent, its own first, as DER; not verified."""
    private: Any = connected._sslobj  # type: ignore[union-attr]  # the public method is of 3.13
    return [one.public_bytes(_DER) for one in private.get_unverified_chain() or ()]


def hash_of(der: bytes) -> str:
    """`sha256:<64 hex>` of a certificate."""
    return f"sha256:{sha256(der).hexdigest()}"


def pin(trust: Trust, chain: list[bytes]) -> None:
    """Look for the certificates of `ca_hash` in what a server shows. Raises `Lost`."""
    shown = {hash_of(der): der for der in chain}
    found = shown.keys() & set(trust.ca_hash.split(","))
    if not found:
        raise Lost(
            f"unknown CA: the server shows no certificate with {trust.ca_hash.replace(',', ' or ')}",
            _OTHER_CA,
        )
    if len(shown) > 1 and found == {hash_of(chain[0])}:
        raise Lost(
            f"{hash_of(chain[0])} is the hash of the server's own certificate, and not of its CA: it would be wrong"
            " after the next renewal",
            "give the --ca-hash that `cfgsync tls show URL` prints, once you have compared it with `cfgsync tls show FILE` there",
        )
    _pinned.update((one, shown[one]) for one in found)


def secured(
    opened: socket.socket, host: str, trust: Trust, again: Callable[[], socket.socket]
) -> ssl.SSLSocket:
    """The verified TLS connection with `host` over `opened`, which has a timeout. `again` opens another one, for after the first look at a
    server whose CA is known by its hash. Raises `Lost`, `OSError`."""
    try:
        context = verifying(trust)
        if context is None:
            with looking().wrap_socket(opened, server_hostname=host) as looked:
                pin(trust, shown_chain(looked))
            opened = again()
            context = verifying(trust, has_looked=True)
            assert context is not None  # just pinned
        return context.wrap_socket(opened, server_hostname=host)
    except BaseException as error:
        opened.close()
        if (lost := why_unverified(error, host, trust)) is not None:
            raise lost from error
        raise


def why_unverified(error: BaseException, host: str, trust: Trust) -> Lost | None:
    """Why the TLS handshake with a server failed; None for another error."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in _OTHER_HOST:
            return Lost(
                f"the server's certificate is not for {host}",
                "give --server a name that the certificate has (`cfgsync tls show URL` prints them), or make one for"
                " this name: cfgsync tls init --host NAME",
            )
        if code in _TIMES:
            return Lost(*_TIMES[code])
        if code in _UNKNOWN_CA:
            by = (
                trust.ca_file or trust.ca_hash.replace(",", " or ") or "an authority that this machine trusts"
            )
            return Lost(f"unknown CA: the server's certificate is not signed by {by}", _OTHER_CA)
        return Lost(f"the server's certificate is refused: {error.verify_message}", _OTHER_CA)
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or ""
    if reason in _NO_TLS:
        return Lost(
            "the server answers without TLS on this port",
            "start the server with --tls-cert and --tls-key; only if it is meant to have no TLS, give --server with http://",
        )
    if "EOF" in reason:
        return Lost("the connection was closed during the TLS handshake", "read the server's log")
    words = reason.replace("_", " ").lower() or str(error)
    return Lost(f"the TLS handshake failed: {words}", "cfgsync speaks TLS 1.2 and 1.3: read the server's log")


def _file_fault(error: OSError) -> str:
    import ssl

    return (
        "no certificate in it" if isinstance(error, ssl.SSLError) else (error.strerror or str(error)).lower()
    )


_OTHER_CA: Final = (
    "give --ca-file FILE, or the --ca-hash that `cfgsync tls show FILE` prints on the server's machine;"
    " if that has not changed, something else answers in the server's place"
)
_TIMES: Final = {
    10: (
        "the server's certificate has expired",
        "renew it on the server's machine (cfgsync tls init, in its directory); is this machine's clock right?",
    ),
    9: (
        "the server's certificate is not valid yet",
        "compare this machine's clock with that of the machine where the certificate was made",
    ),
}
_OTHER_HOST: Final = frozenset({62, 64})
# no issuer, in the chain or here; self-signed; a signature or key that does not fit; not allowed to sign; untrusted
_UNKNOWN_CA: Final = frozenset({2, 7, 18, 19, 20, 21, 24, 27, 30})
_NO_TLS: Final = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNKNOWN_PROTOCOL",
        "HTTP_REQUEST",
    }
)
