"""The files of keys that sign and verify: PEM, of which a public one may hold several."""

from __future__ import annotations

import base64
import os
import re
import stat
from typing import Final

from cfgsync_core.text import cause

from ..errors import InputError

KEYGEN: Final = "`cfgsync bundle keygen signing.key` makes signing.key and signing.key.pub"
_MAX_KEY_BYTES: Final = 4096
_PUBLIC: Final = bytes.fromhex(
    "302a300506032b6570032100"
)  # what comes before the 32 bytes of a key (RFC 8410)
_PEM: Final = re.compile(
    r"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----|-----BEGIN ([A-Z0-9 ]+)-----"
)


def public_keys(file: str) -> list[bytes]:
    """The 32 bytes of each public key in a file. Raises `InputError`, which names the first that is none."""
    pem = key_text(file).decode("ascii", "replace")
    keys = []
    for at, found in enumerate(_PEM.finditer(pem), 1):
        kind, text, cut = found.groups()
        which = f"{file}: the entry {at} in it" if _PEM.search(pem, found.end()) or at > 1 else file
        if "PRIVATE KEY" in (kind or cut):
            raise InputError(f"{which} holds a private key", f"a node gets only the public one: {file}.pub")
        if kind != "PUBLIC KEY":
            raise InputError(
                f"{which} holds {'no whole key' if cut else f'no public key, but a {kind}'}", KEYGEN
            )
        try:
            der = base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            der = b""
        if not der.startswith(_PUBLIC) or len(der) != len(_PUBLIC) + 32:
            raise InputError(f"{which} holds no public Ed25519 key in PEM", KEYGEN)
        keys.append(der.removeprefix(_PUBLIC))
    if not keys:
        raise InputError(f"{file} holds no public Ed25519 key in PEM", KEYGEN)
    return keys


def key_text(file: str, *, is_private: bool = False) -> bytes:
    """What is in the file of a key; a private one must be its user's alone. Raises `InputError`."""
    if not file.strip():
        raise InputError("the name of the key's file is blank", "give the file, or leave it out")
    try:
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            found = os.fstat(opened.fileno())
            pem = opened.read(_MAX_KEY_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise InputError(f"{file}: {cause(error)}", KEYGEN) from error
    if not 0 < len(pem) <= _MAX_KEY_BYTES:
        raise InputError(f"{file} holds no key", KEYGEN)
    if is_private and b"-----BEGIN PUBLIC KEY-----" in pem:
        raise InputError(
            f"{file} holds a public key", "the private one signs: the file of the same name without .pub"
        )
    if is_private and stat.S_IMODE(found.st_mode) & 0o077:
        raise InputError(f"{file} may be read by other users", f"run: chmod 600 {file}")
    return pem
