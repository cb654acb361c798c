"""A node takes only what the holder of a key has signed for it, whichever server, proxy or cache it comes from.

A signature is a DSSE envelope (Ed25519) over identifier, generation and digest, in base64. Only signing and verifying
load the libraries, which takes 60 ms.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import msgspec

from cfgsync_artifacts import create_file
from cfgsync_core.node import NotSigned
from cfgsync_core.text import plain

from ..errors import InputError
from .key_files import KEYGEN, key_text, public_keys

if TYPE_CHECKING:
    from securesystemslib.signer import Key

TYPE: Final = "application/vnd.cfgsync.files+json"
INSTALL: Final = "run: pip install 'cfgsync-runtime[signatures]'"
_MIXED: Final = (
    "the key is one that this node trusts, but the signature is another answer's: in a bundle, sign again (cfgsync bundle sign);"
    " else a proxy or cache between the server and this node mixes answers"
)
_CHANGED: Final = "sign the bundle again after each change: cfgsync bundle sign; if it has not changed, something on the way changes files"
_REVISION: Final = re.compile(r"[0-9]{1,18}")


class Statement(msgspec.Struct, frozen=True):
    """What is signed, in canonical JSON. `generation` is `<epoch>.<number>`, of a static source its revision in digits."""

    digest: str
    generation: str
    identifier: str


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    payloadType: str  # DSSE's name
    signatures: tuple[_Signature, ...]


class Signer:
    """Signs with the private key in a file: `Signer("signing.key")("node-1", "7", digest)`.

    The last signature of each node is kept, since most requests ask for the same files again. Raises `InputError` for a
    file that other users may read, or that holds no Ed25519 key.
    """

    def __init__(self, file: str) -> None:
        _require()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner

        pem = key_text(file, is_private=True)
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:  # TypeError: it is encrypted
            raise InputError(f"{file} holds no private key: {plain(str(error), 100)}", KEYGEN) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"{file} holds a key that is not Ed25519", KEYGEN)
        self._signer = CryptoSigner(key)
        self._last: dict[str, tuple[str, str, str]] = {}

    @property
    def key_id(self) -> str:
        return str(self._signer.public_key.keyid)

    def __call__(self, identifier: str, generation: str | None, digest: str) -> str:
        """The text of `Cfgsync-Signature`."""
        generation = generation or "0"
        last = self._last.get(identifier)
        if last is not None and last[:2] == (generation, digest):
            return last[2]
        from securesystemslib.dsse import Envelope

        statement = msgspec.json.encode(Statement(digest, generation, identifier))
        envelope = Envelope(statement, TYPE, {})
        envelope.sign(self._signer)
        text = base64.b64encode(msgspec.json.encode(envelope.to_dict())).decode()
        self._last[identifier] = (generation, digest, text)
        return text


class Verifier:
    """Checks signatures with the public keys in files; one of them is enough, so that a fleet can change its key. The files
    are read each time: a watching node trusts another key without a restart, and a key that was taken away no more.

    `revision` is the newest signed revision of a static source that the node has accepted. Raises `InputError` for a file
    that holds no public Ed25519 key, and where the libraries are not installed.
    """

    def __init__(self, files: Sequence[str], revision: int = 0) -> None:
        _require()
        self._files = files
        self._read = {key for file in files for key in public_keys(file)}
        self._keys: list[Key] = []
        self.revision = revision

    def __call__(self, text: str | None, identifier: str, generation: str | None, digest: str) -> int:
        """Raise `NotSigned` unless `text` is a signature of these; the revision of a static source, else 0."""
        statement = self.statement(text)
        if statement.identifier != identifier:
            raise _refused(f"is for node {plain(statement.identifier, 140)}, not for {identifier}", _MIXED)
        if generation is None and not _REVISION.fullmatch(statement.generation):
            raise _refused(
                f"is for generation {plain(statement.generation, 80)}, the answer names none", _MIXED
            )
        if generation is not None and statement.generation != generation:
            raise _refused(
                f"is for generation {plain(statement.generation, 80)}, the answer names {plain(generation, 80)}",
                _MIXED,
            )
        if statement.digest != digest:
            raise _refused(
                f"is for files with digest {plain(statement.digest, 80)}, these have {digest}", _CHANGED
            )
        revision = int(statement.generation) if generation is None else 0
        if generation is None and revision < self.revision:
            raise _refused(
                f"is for revision {revision} of the bundle, and this node has seen revision {self.revision}",
                "sign the bundle as a later revision (cfgsync bundle sign takes the time when it is given none); if this one is old"
                " by mistake, serve the newest",
            )
        self.revision = max(self.revision, revision)
        return revision

    def statement(self, text: str | None) -> Statement:
        """What `text` signs. Raises `NotSigned` unless one of the keys has signed it."""
        if text is None:
            raise NotSigned("the files are not signed, and this node takes only signed ones")
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import Signature

        try:
            raw = msgspec.json.decode(base64.b64decode(text, validate=True), type=_Envelope)
            signatures = {
                one.keyid: Signature(one.keyid, base64.b64decode(one.sig, validate=True).hex())
                for one in raw.signatures
            }
            payload = base64.b64decode(raw.payload, validate=True)
        except (ValueError, RecursionError) as error:
            raise NotSigned(f"the signature is not a DSSE envelope: {plain(str(error), 100)}") from error
        envelope = Envelope(payload, raw.payloadType, dict(signatures))
        keys = self._loaded()
        try:
            envelope.verify(keys, 1)
        except (VerificationError, ValueError):  # ValueError: there is no key
            by, trusted = list(signatures), [key.keyid for key in keys]
            if ours := set(by) & set(trusted):
                raise _refused(f"by key {min(ours)[:16]} is not genuine") from None
            raise NotSigned(
                f"the files are signed by {_named(by)}, and this node trusts {_named(trusted)}"
            ) from None
        if envelope.payload_type != TYPE:
            raise _refused(f"is of {plain(envelope.payload_type, 80)}, not of {TYPE}")
        try:
            return msgspec.json.decode(payload, type=Statement)
        except ValueError as error:
            raise _refused(f"signs something else: {plain(str(error), 100)}") from error

    def _loaded(self) -> list[Key]:
        read = set()
        for file in self._files:
            with suppress(InputError):
                read.update(public_keys(file))
        if read != self._read or not self._keys:
            self._read = read
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
            from securesystemslib.signer import SSlibKey

            self._keys = [SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(raw)) for raw in read]
        return self._keys


def changed_since_signed(signatures: Mapping[str, str], digests: Mapping[str, str]) -> list[str]:
    """The nodes whose signature is not for their digest, or that have none. No key is needed, so nothing is verified."""
    return [name for name, digest in digests.items() if _stated(signatures.get(name, "")) != (name, digest)]


def _stated(text: str) -> tuple[str, str] | None:
    try:
        raw = msgspec.json.decode(base64.b64decode(text, validate=True), type=_Envelope)
        statement = msgspec.json.decode(base64.b64decode(raw.payload, validate=True), type=Statement)
    except (ValueError, RecursionError):
        return None
    return statement.identifier, statement.digest


def make_key_pair(file: str) -> str:
    """Write a new private key to `file` (0600) and the public one to `file`.pub; the key's id. Raises `InputError` when one
    of them is there, and changes neither; `DiskError`."""
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    public = f"{file}.pub"
    key = Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, pem, mode in ((file, private_pem, 0o600), (public, public_pem, 0o644)):
        if os.path.lexists(public) or not create_file(name, pem, mode):
            raise InputError(
                f"{file} or {public} is there already: no key is overwritten", "give another name"
            )
    return Signer(file).key_id


def _named(ids: Sequence[str]) -> str:
    return f"key {', '.join(plain(name[:16]) for name in ids[:3])}" if ids else "no key"


def _refused(what: str, hint: str = "") -> NotSigned:
    return NotSigned(f"the signature {what}", hint)


def _require() -> None:
    if find_spec("securesystemslib") is None or find_spec("cryptography") is None:
        raise InputError("signatures need the libraries securesystemslib and cryptography", INSTALL)
