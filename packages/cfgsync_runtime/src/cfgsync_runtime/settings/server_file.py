"""A server file of any of the original's three generations keeps working; relative names in it begin at its directory.

newest:  `port`, `source: {kind: static | registration, artifacts_path}`
before:  `port`, `source: {kind: bundle | registration_bundle, bundle_path}`
oldest:  `port`, `bundle_path`, `serving_mode: bundle | registration`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from cfgsync_core import NodeArtifactsBundle

from .bundle_file import check_keys, load_bundle
from .yaml_place import Place

_FORM: Final = "a server file is `port: 4400`, then `source:` with `kind: static` and `artifacts_path: FILE`"
_KINDS: Final = {"static": False, "bundle": False, "registration": True, "registration_bundle": True}
_MODES: Final = {"bundle": False, "registration": True}
_PATHS: Final = ("artifacts_path", "bundle_path")
KEYS: Final[Mapping[str, tuple[Callable[[Place, str], object], str]]] = {
    "port": (Place.number, "4400"),
    "host": (Place.texts, "127.0.0.1"),
    "store": (Place.text, "sqlite:FILE"),
    "hints": (Place.text, "nats://HOST:4222"),
    "events_stream": (Place.text, "EVENTS"),
    "shrink_guard": (Place.number, "50"),
    "ttl": (Place.scalar, "60"),
    "run_timeout": (Place.scalar, "60"),
    "title": (Place.text, "my fleet"),
    "rollout": (Place.text, "all"),
    "max_parallel": (Place.scalar, "10%"),
    "canary": (Place.number, "1"),
    "bake": (Place.scalar, "30"),
    "deadline": (Place.scalar, "5m"),
    "max_failures": (Place.scalar, "1"),
    "on_failure": (Place.text, "revert"),
    "tls_cert": (Place.text, "server.pem"),
    "tls_key": (Place.text, "server.key"),
    "trusted_proxy": (Place.texts, "10.0.0.0/8"),
    "allow_origin": (Place.texts, "https://example.com"),
    "signing_key": (Place.text, "signing.key"),
    "validator": (Place.text, "app:MyValidator"),
    **dict.fromkeys(
        (
            *("insecure_no_tls", "insecure_no_auth", "allow_anonymous", "require_tokens", "expose_errors"),
            *("legacy_init_with_node", "legacy_replace", "no_page", "page_contents"),
            *("documents", "open_documents", "project_kv"),
        ),
        (Place.truth, "true"),
    ),
}
"""The settings in a server file: how a value is read, and an example of one."""


class BundleServer(msgspec.Struct, frozen=True):
    """Serve the files of a bundle to the nodes in it, or to those that are registered only. `file` is the name of the
    bundle."""

    bundle: NodeArtifactsBundle
    file: str
    registered_only: bool = False


class ServerFile(msgspec.Struct, frozen=True):
    """A server file as read: what to serve, and the settings in it by the name of the field in `ServeSettings`, each
    with the place it was written (`cfgsync.yaml:3:7: host`)."""

    server: BundleServer
    settings: Mapping[str, tuple[object, str]]


def load_server_file(path: str | Path) -> ServerFile:
    """Read a server file and the bundle that it names. Raises `InputError` for both."""
    from .yaml_document import read_document  # YAML takes 13 ms to load, and a materializer needs none

    place = read_document(Path(path))
    top = place.entries(_FORM)
    if "port" not in top:
        place.refuse("no `port` in it", _FORM)
    settings: dict[str, tuple[object, str]] = {
        name: (read(top[name], f"write `{name}: {example}` or leave it out"), top[name].where)
        for name, (read, example) in KEYS.items()
        if name in top
    }
    if "store" in settings:
        url, where = settings["store"]
        settings["store"] = (_beside(place.file, str(url)), where)
    for name in ("tls_cert", "tls_key", "signing_key"):
        if name in settings:
            file, where = settings[name]
            settings[name] = (str(place.file.parent / str(file)), where)
    if "source" in top:
        check_keys(place, top, ("source", *KEYS))
        return ServerFile(_from_source(top["source"]), settings)
    check_keys(place, top, ("source", *KEYS, "bundle_path", "serving_mode"))
    if "bundle_path" not in top:
        place.refuse("cfgsync server config requires source.kind or legacy bundle_path", _FORM)
    registered_only = "serving_mode" in top and _choice(top["serving_mode"], _MODES)
    return ServerFile(_load(top["bundle_path"], registered_only), settings)


def _from_source(source: Place) -> BundleServer:
    fields = source.entries(_FORM)
    if "kind" not in fields:
        source.refuse("no `kind` in it", _FORM)
    registered_only = _choice(fields["kind"], _KINDS)
    given = [fields[name] for name in _PATHS if name in fields]
    if not given:
        source.refuse("no `artifacts_path` in it", _FORM)
    if len(given) == 2 and given[0].text(_FORM) != given[1].text(_FORM):
        given[1].refuse("names another file than `artifacts_path`", "keep one of the two")
    check_keys(source, fields, ("kind", *_PATHS))
    return _load(given[0], registered_only)


def _choice(place: Place, known: Mapping[str, bool]) -> bool:
    word = place.text(_FORM)
    if word not in known:
        place.refuse(f"expected one of {', '.join(known)}, found {word[:60]!r}", _FORM)
    return known[word]


def _load(place: Place, registered_only: bool) -> BundleServer:
    file = place.file.parent / place.text(_FORM)
    if not file.exists():
        place.refuse(f"{file} does not exist", "a relative name begins at the directory of the server file")
    return BundleServer(load_bundle(file), str(file), registered_only)


def _beside(file: Path, url: str) -> str:
    """A relative `sqlite:` file begins at the directory of the server file, as every other name in it."""
    scheme, colon, name = url.partition(":")
    if scheme != "sqlite" or not colon or not name or name.startswith(("/", ":")):
        return url
    return f"sqlite:{(file.parent / name).absolute()}"
