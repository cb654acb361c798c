"""An operator's files for one node, in place of the materializer's: the body of `POST /node/replace`."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from cfgsync_artifacts import ArtifactFile, ArtifactSet, CfgsyncError, InvalidArtifact

from ..errors import InvalidRequest
from .payload import File, encode_files
from .registration import check_identifier
from .request_body import RequestBody

REPLACEMENT: Final = "Cfgsync-Replacement"
NO_REPLACEMENT: Final = "none"
"""The header's value in a 202 when there was no replacement to remove."""


class Replacement(msgspec.Struct, frozen=True):
    """A node's own files, in place of the materializer's. Without files the replacement is removed."""

    identifier: str
    files: ArtifactSet


class _Body(msgspec.Struct):
    identifier: str
    files: list[File] = []


_body = RequestBody(_Body)


def encode_replacement(replacement: Replacement) -> bytes:
    """The body of `POST /node/replace`; byte-equal to the original's for plain text files."""
    identifier = msgspec.json.encode(replacement.identifier)
    return b'{"identifier":%b,"files":[%b]}' % (identifier, encode_files(replacement.files))


def decode_replacement(body: bytes) -> Replacement:
    """The replacement in a `POST /node/replace` body. Raises `InvalidRequest` (400 or 422)."""
    decoded = _body.decode(body)
    check_identifier(decoded.identifier)
    files = [_file(at, file) for at, file in enumerate(decoded.files)]
    try:
        return Replacement(decoded.identifier, ArtifactSet(files))
    except CfgsyncError as error:
        raise InvalidRequest(422, f"files: {error}") from error


def _file(at: int, given: File) -> ArtifactFile:
    content: str | bytes = given.content
    if given.encoding == "base64":
        try:
            content = base64.b64decode(given.content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(422, f"files[{at}].content: not base64: {error}") from error
    elif given.encoding != "text":
        raise InvalidRequest(422, f"files[{at}].encoding: expected text or base64")
    try:
        return ArtifactFile(given.path, content, given.mode)
    except InvalidArtifact as error:
        raise InvalidRequest(422, f"files[{at}]: {error}") from error
