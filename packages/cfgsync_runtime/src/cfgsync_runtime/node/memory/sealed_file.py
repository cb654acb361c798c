"""A file with the digest of its content in its first line, so that a damaged one is noticed."""

from __future__ import annotations

import errno
import os
import stat
from hashlib import sha256

from cfgsync_artifacts import (
    on_disk,
)

_SEAL = "cfgsync-state 1 "


class NoFile(Exception):
    """A pipe, a device or a directory in the place of a part."""


def sealed(*body: bytes) -> bytes:
    """The body below a line with its digest, so that a flipped bit is found."""
    digest = sha256()
    for piece in body:
        digest.update(piece)
    return b"".join((f"{_SEAL}{digest.hexdigest()}\n".encode(), *body))


def unsealed(raw: bytes) -> bytes:
    seal, _, body = raw.partition(b"\n")
    if seal != f"{_SEAL}{sha256(body).hexdigest()}".encode():
        raise ValueError("its first line is not the digest of the rest")
    return body


def read(path: str, at_most: int = -1) -> bytes | None:
    with on_disk(path, "read"):
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise NoFile("is not a regular file")
                return file.read(at_most)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.ENXIO):  # a directory, a socket
                raise NoFile("is not a regular file") from None
            raise


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe without a writer must not block."""
    return os.open(path, flags | os.O_NONBLOCK)
