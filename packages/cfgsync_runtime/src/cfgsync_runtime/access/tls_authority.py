"""A small authority in a directory: its certificate and key, and those of one server that it signs. Nothing is overwritten but
the certificate of a server that the authority signed itself."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cfgsync_artifacts import create_file, replace_file
from cfgsync_core.text import cause

from ..errors import MachineRefused
from .tls_facts import facts_of, names_of

CA_DAYS: Final = 3_650
SERVER_DAYS: Final = 397
EARLIER: Final = timedelta(hours=1)
"""So long before now a certificate begins: a node's clock may be a little behind."""
PUBLIC: Final = 0o644
PRIVATE: Final = 0o600
_NAME: Final = re.compile(
    r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?"
)


class Made(msgspec.Struct, frozen=True):
    """What `init` has written: the `files`, the names and the end of the server's certificate, the hash of its CA; and the names
    that the certificate before had, and this one has not."""

    files: tuple[str, ...]
    names: tuple[str, ...]
    ends: str
    ca_hash: str
    gone: tuple[str, ...] = ()


def is_host(name: str) -> bool:
    """True for a host name, one with `*.` before it, or an address."""
    with suppress(ValueError):
        ip_address(name)
        return True
    # digits and dots alone are an address with a mistake in it
    return len(name) <= 253 and _NAME.fullmatch(name) is not None and not re.fullmatch(r"[0-9.]+", name)


def init(directory: str, hosts: Sequence[str]) -> Made:
    """Make an authority and a server's certificate for `hosts` in `directory`; with an authority there, another certificate for
    the server, of the same key. Without `hosts`, for the names that it had. Raises `MachineRefused`, `DiskError`."""
    ca_pem, ca_key, server_pem, server_key = (
        os.path.join(directory, name) for name in ("ca.pem", "ca.key", "server.pem", "server.key")
    )
    is_there = {name for name in (ca_pem, ca_key, server_pem, server_key) if os.path.lexists(name)}
    if is_there and not {ca_pem, ca_key} <= is_there:
        raise MachineRefused(
            f"{' and '.join(sorted(is_there))} would be overwritten",
            "give another --dir, or move them away; with ca.pem and ca.key there, the server's certificate is renewed",
        )
    files: list[str] = []
    named: list[str] = []
    if is_there:
        authority, signer = _certificate(ca_pem), _key(ca_key)
        if authority.public_key() != signer.public_key():
            raise MachineRefused(f"{ca_key} is not the key of {ca_pem}", _MOVE)
        if not facts_of(authority).is_authority:
            raise MachineRefused(f"the certificate in {ca_pem} is no CA's: what it signs is refused", _MOVE)
        if authority.not_valid_after_utc <= _now():
            raise MachineRefused(f"the CA in {ca_pem} has expired", _MOVE)
        if server_pem in is_there:
            before = _certificate(server_pem)
            _refuse_stranger(before, authority, server_pem)
            named = names_of(before)
            hosts = hosts or named
    if not hosts:
        raise MachineRefused("no --host is given", "give --host NAME for each name and address of the server")
    if not is_there:
        signer = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(signer)
        _create(ca_key, _private(signer), PRIVATE)
        _create(ca_pem, authority.public_bytes(Encoding.PEM), PUBLIC)
        files += [ca_pem, ca_key]
    if server_key in is_there:
        key = _key(server_key)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        _create(server_key, _private(key), PRIVATE)
        files.append(server_key)
    server = _server(key, hosts, authority, signer)
    chain = server.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    replace_file(server_pem, chain, PUBLIC)  # in one step: a server may read it now
    facts = facts_of(server)
    gone = tuple(name for name in named if name not in facts.names)
    return Made((*files, server_pem), facts.names, facts.ends, facts_of(authority).ca_hash, gone)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _named(f"cfgsync CA {own.digest.hex()[:8]}")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _valid(name, name, key, _now() + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(key, SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    try:
        of_authority = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # made by another program
        of_authority = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
    ends = min(_now() + timedelta(days=SERVER_DAYS), authority.not_valid_after_utc)
    return (
        _valid(_named("cfgsync server"), authority.subject, key, ends)
        .add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(map(_general, hosts)))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(of_authority), critical=False
        )
        .sign(signer, SHA256())
    )


def _valid(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - EARLIER)
        .not_valid_after(ends)
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**allowed: bool) -> x509.KeyUsage:
    none = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(**(none | allowed))


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host.rstrip(".").lower())


def _refuse_stranger(server: x509.Certificate, authority: x509.Certificate, file: str) -> None:
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise MachineRefused(f"{file} is not signed by the CA beside it, and stays", _MOVE) from error


def _certificate(file: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(file))[0]
    except ValueError as error:
        raise MachineRefused(f"{file}: there is no certificate in PEM in it", _MOVE) from error


def _key(file: str) -> ec.EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(_read(file), None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise MachineRefused(f"{file}: there is no unencrypted key in PEM in it", _MOVE) from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise MachineRefused(f"{file} is not an ECDSA key", _MOVE)
    return found


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise MachineRefused(f"{file}: {cause(error)}", _MOVE) from error


def _create(file: str, content: bytes, mode: int) -> None:
    """Write a file that is not there yet."""
    if not create_file(file, content, mode):
        raise MachineRefused(f"{file} would be overwritten", _MOVE)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _now() -> datetime:
    return datetime.now(UTC)


_MOVE: Final = "move it away, or give another --dir"
