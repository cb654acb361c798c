"""What a certificate says: names, times, issuer, hash."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from cfgsync_core.node import hash_of
from cfgsync_core.text import plain, rfc3339

DAY: int = 86_400


class CertificateFacts(msgspec.Struct, frozen=True):
    """One certificate. `begins` and `ends` are RFC 3339; `ca_hash` is what `--ca-hash` takes, `""` for a certificate that is
    neither an authority's nor signed by itself."""

    names: tuple[str, ...]
    begins: str
    ends: str
    days_left: int
    issuer: str
    ca_hash: str
    is_authority: bool


def facts_of(one: x509.Certificate) -> CertificateFacts:
    """The facts of one certificate."""
    from cryptography.hazmat.primitives.serialization import Encoding

    begins, ends = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
    is_authority = _is_authority(one)
    pinned = is_authority or one.issuer == one.subject
    return CertificateFacts(
        names=tuple(plain(name) for name in names_of(one)),
        begins=rfc3339(int(begins)),
        ends=rfc3339(int(ends)),
        days_left=days_until(ends),
        issuer=plain(one.issuer.rfc4514_string()),
        ca_hash=hash_of(one.public_bytes(Encoding.DER)) if pinned else "",
        is_authority=is_authority,
    )


def ca_hash_of(chain: Sequence[x509.Certificate]) -> str:
    """The hash that a node needs for a server that shows these, its own first; "" when its CA is not among them."""
    return next((found for one in reversed(chain) if (found := facts_of(one).ca_hash)), "")


def days_until(ends_at: float) -> int:
    """Whole days from now until then (seconds since 1970); negative when it has passed."""
    return int((ends_at - time.time()) // DAY)


def names_of(one: x509.Certificate) -> list[str]:
    """The host names and addresses that a certificate is for; of an authority its common name."""
    try:
        found = one.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return [str(name.value) for name in one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    assert isinstance(found, x509.SubjectAlternativeName)
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def names_a_host(one: x509.Certificate) -> bool:
    """False for a certificate without alternative names: no client looks at its common name any more."""
    try:
        one.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return False
    return True


def _is_authority(one: x509.Certificate) -> bool:
    try:
        found = one.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value
    except x509.ExtensionNotFound:
        return False
    assert isinstance(found, x509.BasicConstraints)
    return found.ca
