"""Certificates of a test: a CA, and what it signs, also for a time that is over, that has not come, or for another host."""

from __future__ import annotations

import itertools
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cfgsync_core.node import hash_of

HERE: Final = ("localhost", "127.0.0.1")
_numbers = itertools.count(1)


class Authority:
    """A CA whose files are in `directory`. Two of one name are two authorities that differ in their keys alone."""

    def __init__(self, directory: Path, name: str = "tests") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._own = _signed(self._name, self._name, self._key, self._key, (), -1, 100, True)
        self.file = directory / f"ca-{next(_numbers)}.pem"
        self.file.write_bytes(self._own.public_bytes(Encoding.PEM))
        self.hash = hash_of(self._own.public_bytes(Encoding.DER))

    def private_pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def pair(
        self,
        hosts: tuple[str, ...] = HERE,
        *,
        begins: float = -1,
        ends: float = 30,
        stem: str = "",
        with_ca: bool = True,
    ) -> tuple[Path, Path]:
        """A certificate from `begins` to `ends` (days from now), its CA after it, and its key: the files `stem`.pem and .key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _signed(_named("a server"), self._name, key, self._key, hosts, begins, ends, False)
        stem = stem or f"server-{next(_numbers)}"
        cert, secret = self._directory / f"{stem}.pem", self._directory / f"{stem}.key"
        chain = made.public_bytes(Encoding.PEM) + (self._own.public_bytes(Encoding.PEM) if with_ca else b"")
        cert.write_bytes(chain)
        secret.touch(0o600)
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert, secret


def server_context(pair: tuple[Path, Path]) -> ssl.SSLContext:
    """What a server of this pair listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    return context


def self_signed(directory: Path, hosts: tuple[str, ...] = HERE) -> tuple[Path, Path, str]:
    """A certificate that signs itself, its key, and its hash."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("itself")
    made = _signed(name, name, key, key, hosts, -1, 30, False)
    cert, secret = directory / "self.pem", directory / "self.key"
    cert.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, secret, hash_of(made.public_bytes(Encoding.DER))


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    hosts: tuple[str, ...],
    begins: float,
    ends: float,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if hosts:
        names = [x509.IPAddress(ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, SHA256())
