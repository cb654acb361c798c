"""A bundle file is read whole, or refused with its line.

Both forms of the original are accepted everywhere (each of its two kinds of server reads one of them):
`nodes: [{identifier, files}]` with `shared_files: […]`, and `nodes: {identifier: {files}}` with `shared: {files}`.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from cfgsync_artifacts import ArtifactFile, ArtifactSet, DuplicatePath, InvalidArtifact
from cfgsync_core import InvalidBundle, NodeArtifactsBundle, NodeArtifactsBundleEntry

from .yaml_place import Place

At: TypeAlias = tuple[str | int, ...]

_log = logging.getLogger(__name__)

FILE_FORM: Final = (
    'a file is `{path: /config.yaml, content: "…"}`, if need be with `mode: "0600"` or `encoding: base64`'
)
_TOP: Final = "a bundle begins with `nodes:`, then `- identifier: node-1` and its `files:`"
_NODE: Final = "a node is `{identifier: node-1, files: [{path, content}, …]}`"
_NAMED_NODE: Final = "with `nodes` as a mapping, a node is `node-1: {files: [{path, content}, …]}`"
_SHARED: Final = "with `nodes` as a mapping, what all share is `shared: {files: [{path, content}, …]}`"
_SIGNED: Final = "`cfgsync bundle sign` writes `revision` and `signatures`: run it again"
_LISTED: Final = "with `nodes` as a list, what all share is `shared_files: [{path, content}, …]`"
_OF_SIGNING: Final = ("revision", "signatures")
_LEGAL: Final = {
    "identifier": "give each node a legal name of its own: letters, digits, `.`, `_` and `-`",
    "path": "give each file of a node, and each shared file, a legal path of its own (docs/reference/files.md)",
    "content": "make the file smaller",
    "files": "give the node fewer or smaller files",
}


def load_bundle(path: str | Path) -> NodeArtifactsBundle:
    """The bundle in a YAML file, checked. Raises `InputError` naming file, line, column and what was expected."""
    from .yaml_document import read_document  # YAML takes 13 ms to load, and a materializer needs none

    place = read_document(Path(path))
    top = place.entries(_TOP)
    nodes = top.get("nodes")
    if nodes is None:
        place.refuse("no `nodes` in it", _TOP)
    bundle = _listed(place, top, nodes) if nodes.is_list else _named(place, top, nodes)
    for entry in bundle.nodes:
        if not entry.files and not bundle.shared_files:
            _log.warning(
                "%s: node %s gets no files; a client refuses an answer without files", path, entry.identifier
            )
    return bundle


def _listed(place: Place, top: Mapping[str, Place], nodes: Place) -> NodeArtifactsBundle:
    check_keys(place, top, ("nodes", "shared_files", *_OF_SIGNING), foreign="shared", hint=_LISTED)
    entries = []
    for node in nodes.items(_TOP):
        fields = node.entries(_NODE)
        check_keys(node, fields, ("identifier", "files"))
        if "identifier" not in fields:
            node.refuse("no `identifier` in it", _NODE)
        identifier = fields["identifier"].text(_NODE)
        with _located(node):
            entries.append(NodeArtifactsBundleEntry(identifier, _files(fields.get("files"), _NODE)))
    with _located(place):
        return NodeArtifactsBundle(tuple(entries), _files(top.get("shared_files"), _LISTED), **_signing(top))


def _named(place: Place, top: Mapping[str, Place], nodes: Place) -> NodeArtifactsBundle:
    check_keys(place, top, ("nodes", "shared", *_OF_SIGNING), foreign="shared_files", hint=_SHARED)
    entries = []
    for identifier, node in nodes.entries(_NAMED_NODE).items():
        fields = node.entries(_NAMED_NODE)
        check_keys(node, fields, ("files",))
        try:
            with _located(node):
                entries.append(NodeArtifactsBundleEntry(identifier, _files(fields.get("files"), _NAMED_NODE)))
        except InvalidBundle as error:  # the identifier is not in the node here, but the key before it
            nodes.key(identifier).refuse(error.why, _LEGAL["identifier"])
    shared = top["shared"].entries(_SHARED) if "shared" in top else {}
    if "shared" in top:
        check_keys(top["shared"], shared, ("files",))

    def spelled(at: At) -> At:
        """The way in this form of a bundle."""
        if at[0] == "shared_files":
            return ("shared", "files", *at[1:])
        return (at[0], entries[int(at[1])].identifier, *at[2:])

    with _located(place, spelled):
        return NodeArtifactsBundle(tuple(entries), _files(shared.get("files"), _SHARED), **_signing(top))


def _signing(top: Mapping[str, Place]) -> dict[str, Any]:
    """The revision and the signatures, if the bundle has them."""
    revision = top["revision"].number(_SIGNED) if "revision" in top else 0
    listed = top["signatures"].entries(_SIGNED) if "signatures" in top else {}
    return {"revision": revision, "signatures": {name: one.text(_SIGNED) for name, one in listed.items()}}


def _files(listed: Place | None, hint: str) -> ArtifactSet:
    places = list(listed.items(hint)) if listed is not None else []
    files = [_file(place) for place in places]
    try:
        return ArtifactSet(files)
    except DuplicatePath as error:
        first, second = [index for index, file in enumerate(files) if file.path == error.path][:2]
        places[second].refuse(f"the path {error.path!r} is given twice, first as [{first}]", _LEGAL["path"])


def _file(place: Place) -> ArtifactFile:
    fields = place.entries(FILE_FORM)
    check_keys(place, fields, ("path", "content", "mode", "encoding"))
    for needed in ("path", "content"):
        if needed not in fields:
            place.refuse(f"no `{needed}` in it", FILE_FORM)
    path = fields["path"].text(FILE_FORM)
    binary = fields["content"].is_binary
    content: str | bytes = fields["content"].text('write `content: ""` for an empty file', "!!binary")
    encoding = fields["encoding"].text(FILE_FORM) if "encoding" in fields else "base64" if binary else "text"
    if binary and encoding != "base64":
        fields["encoding"].refuse(f"the content is !!binary, so it is not {encoding!r}", FILE_FORM)
    if encoding == "base64":
        try:
            content = base64.b64decode("".join(str(content).split()), validate=True)
        except (binascii.Error, ValueError) as error:
            fields["content"].refuse(
                f"not base64: {error}", f"base64 -w0 FILE prints it; without it, {FILE_FORM}"
            )
    elif encoding != "text":
        fields["encoding"].refuse(f"expected base64 or text, found {encoding!r}", FILE_FORM)
    mode = {"mode": fields["mode"].text(FILE_FORM)} if "mode" in fields else {}
    try:
        return ArtifactFile(path, content, **mode)
    except InvalidArtifact as error:
        culprit = "mode" if error.why.startswith("mode") else "path"
        fields[culprit].refuse(error.why, FILE_FORM)


@contextmanager
def _located(place: Place, spelled: Callable[[At], At] = lambda at: at) -> Iterator[None]:
    """Turn what a bundle says about itself into the line where it is written, below `place`."""
    try:
        yield
    except InvalidBundle as error:
        spot = place
        for step in spelled(error.at):
            inner = spot.inside(step)
            if inner is None:
                raise
            spot = inner
        spot.refuse(error.why, _LEGAL[str(error.at[-1])])


def check_keys(
    place: Place, fields: Mapping[str, Place], names: tuple[str, ...], *, foreign: str = "", hint: str = ""
) -> None:
    """Warn of unknown keys, which the original ignores silently: one may be misspelt. Refuse a key of the other form of
    bundles (`foreign`): ignoring it would serve less than the file holds."""
    for name in fields:
        if name == foreign:
            place.key(name).refuse("belongs to the other form of bundles", hint)
        if name not in names:
            _log.warning("%s: unknown key ignored; known here: %s", place.key(name).where, ", ".join(names))
