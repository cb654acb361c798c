"""How the settings of `serve` are read, once at the edge: a flag wins over the environment, that over the file, that over the
default, and a refusal names where the value came from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import pydantic

from cfgsync_core import StoreRefused

from ..access.insecure import InsecureOption, open_hosts, refuse_insecure
from ..backends.engines import scheme_of
from ..errors import InputError
from ..materializer.loading import lies_in, split_target
from .bundle_file import load_bundle
from .serve_settings import REPEATED, ROLLOUT, ServeSettings, flag_of, variable_of_field
from .server_file import BundleServer, load_server_file
from .variables import refuse_unusable

TARGETS: Final = ("materializer", "bundle", "config")
"""What may be served, by its field; `materializer` is the flagless MODULE:CLASS (`CFGSYNC_SERVE_MATERIALIZER`)."""

_NOTHING: Final = InputError(
    "nothing to serve", "give MODULE:CLASS, --bundle FILE, --config FILE or --documents"
)

_FIELDS: Final = tuple(sorted(ServeSettings.model_fields.keys() - {"materializer", "server"}))


class _Given(NamedTuple):
    value: object
    origin: str
    """Where it was written: `--port`, `CFGSYNC_SERVE_PORT`, `cfgsync.yaml:3:7: port`."""


def read_serve_settings(
    flags: Mapping[str, object],
    environment: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda _: None,
) -> ServeSettings:
    """The settings of `serve` from flags (by field name; None is not given), the environment and the file they name.

    An empty variable is not given. Reads the bundle or server file. `say` gets a line about each variable that is ignored
    or has a new name. Raises `InputError`.
    """
    inputs = {field: _given(field, flags, environment, say) for field in (*TARGETS, *_FIELDS)}
    target, named = _target(inputs)
    settings: dict[str, _Given] = {}
    if target == "materializer":
        split_target(str(named.value))
        settings["materializer"] = named
    elif target == "documents":
        pass
    elif target == "bundle":
        bundle = str(named.value)
        settings["server"] = _Given(BundleServer(load_bundle(bundle), bundle), named.origin)
    else:
        read = load_server_file(str(named.value))
        settings["server"] = _Given(read.server, named.origin)
        settings |= {field: _Given(*written) for field, written in read.settings.items()}
    for field in _FIELDS:
        if (given := inputs[field]) is not None:
            settings[field] = given
    if "store" not in settings:
        settings["store"] = _Given(default_store(target, str(named.value), environment), "the default store")
    made = _validated(settings)
    _refuse_documents(made, settings, target)
    _refuse_rollout(made, settings, target)
    try:
        scheme_of(made.store)
    except StoreRefused as error:  # the setting is wrong, not the machine
        raise InputError(f"{settings['store'].origin}: {error}", error.hint) from error
    _refuse_contradiction(made)
    _refuse_half_a_pair(made, settings)
    file = str(named.value) if target == "config" else None
    refuse_insecure(
        made.host,
        made.lacking,
        lambda missing: _to_add(missing, file),
        certificate="--tls-cert and --tls-key" if file is None else "`tls_cert` and `tls_key`",
        has_tls=made.tls_cert is not None,
        has_rule=made.requires_tokens,
    )
    _refuse_off_loopback(made, settings)
    if made.signing_key and made.is_static and made.server is not None and made.server.bundle.signatures:
        raise InputError(
            f"{settings['signing_key'].origin}: {made.server.file} is signed already, and a node gets one signature",
            "leave the key out, or remove `signatures` from the bundle",
        )
    if made.materializer_user and (made.debug or made.materializer is None):
        why = "--debug runs it in the server's process" if made.debug else "no materializer is served"
        raise InputError(f"{settings['materializer_user'].origin}: {why}", "leave one of the two out")
    return made


def default_store(target: str, name: str, environment: Mapping[str, str]) -> str:
    """`sqlite:$XDG_STATE_HOME/cfgsync/serve-<name>.db`.

    A module of the current directory, and a file, add eight digits of where they lie: two projects with an `app.py`
    each would otherwise serve each other's nodes.
    """
    here = Path.cwd()
    if target == "materializer":
        lies = str(here) if lies_in(here, split_target(name)[0]) else ""
        stem = name.replace(":", ".")
    elif target == "documents":
        lies, stem = "", target
    else:
        lies = str(Path(name).resolve())
        stem = Path(name).stem
    spelled = re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:80]
    suffix = f"-{sha256(lies.encode()).hexdigest()[:8]}" if lies else ""
    home = environment.get("XDG_STATE_HOME", "")
    # a relative XDG_STATE_HOME is to be ignored (XDG Base Directory Specification)
    try:
        state = (
            Path(home)
            if home.startswith("/")
            else Path(environment.get("HOME") or Path.home(), ".local/state")
        )
    except RuntimeError as error:  # no passwd entry either
        raise InputError(
            "there is no place for the store: neither XDG_STATE_HOME nor HOME is set, and this user has no home directory",
            "give --store sqlite:FILE",
        ) from error
    return f"sqlite:{state / 'cfgsync' / f'serve-{spelled}{suffix}.db'}"


def _given(
    field: str, flags: Mapping[str, object], environment: Mapping[str, str], say: Callable[[str], None]
) -> _Given | None:
    several = field in REPEATED
    if (value := flags.get(field)) not in (None, [], ()):
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                refuse_unusable(flag_of(field), one)
        return _Given(value, flag_of(field))
    found = variable_of_field(field).read(environment, say, blanks="\n" if several else "")
    if found is None:
        return None
    name, text = found
    return _Given([one.strip() for one in re.split("[,\n]", text) if one.strip()] if several else text, name)


def _target(inputs: Mapping[str, _Given | None]) -> tuple[str, _Given]:
    """What to serve: by the flags, else by the environment."""
    named = [(field, one) for field in TARGETS if (one := inputs[field]) is not None]
    by_flag = [(field, one) for field, one in named if one.origin == flag_of(field)]
    named = by_flag or named
    if not named and (documents := inputs["documents"] or inputs["open_documents"]) is not None:
        return "documents", documents
    if not named:
        raise _NOTHING
    if len(named) > 1:
        both = " and ".join(given.origin for _, given in named)
        raise InputError(f"{both} each name something to serve", "give one of them")
    return named[0]


def _validated(settings: Mapping[str, _Given]) -> ServeSettings:
    values: dict[str, Any] = {field: given.value for field, given in settings.items()}
    try:
        return ServeSettings.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        given = settings[field]
        value = first["input"] if len(first["loc"]) > 1 else given.value
        shown = f", found {str(value)[:60]!r}" if field != "store" else ""  # a URL may hold a password
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise InputError(
            f"{given.origin}: {message}{shown}", _EXPECTED.get(field, "see cfgsync serve --help")
        ) from error


_EXPECTED: Final = {
    "store": "a store is sqlite:FILE, postgresql://HOST/DATABASE or memory:",
    "host": "give an address of this machine, such as 127.0.0.1",
    "admin_socket": "give the path of a socket, or leave it out",
    "port": "give a port from 1 to 65535, or 0 for one that is free",
    "late": "follow makes a new generation for late nodes, freeze refuses them",
    "run_timeout": "give seconds, or a duration such as 5m, above 0",
    "ttl": "give seconds, or a duration such as 5m, above 0; or leave it out and no node is removed",
    "allow_origin": "give scheme and host, and the port if it is not the usual one, such as https://example.com",
    "trusted_proxy": "give an address or a network, such as 10.0.0.0/8",
    "title": "give at most 100 characters",
    "shrink_guard": "give a percentage from 0 (off) to 100",
    "rollout": "rolling lets nodes take turns, all gives a change to every node at once",
    "max_parallel": "give a number of nodes such as 2, or a share such as 10%",
    "canary": "give a number of nodes, 0 for none",
    "bake": "give seconds, or a duration such as 5m",
    "deadline": "give seconds, or a duration such as 5m, above 0",
    "max_failures": "give a number of nodes such as 1, or a share such as 10%",
    "on_failure": "halt stops the change, revert goes back to the last files that all nodes came through",
    **{
        name: "give true or false"
        for name, field in ServeSettings.model_fields.items()
        if field.annotation is bool
    },
}


def _refuse_contradiction(settings: ServeSettings) -> None:
    if settings.require_tokens and settings.insecure_no_auth:
        raise InputError("--require-tokens contradicts --insecure-no-auth", "leave one of them out")


def _to_add(missing: Sequence[InsecureOption], file: str | None) -> str:
    """The flags, or the lines of the server file, that waive what is missing."""
    names = [f"insecure_{option.replace('-', '_')}" for option in missing]
    if file is None:
        return " ".join(map(flag_of, names))
    return " and ".join(f"`{name}: true`" for name in names) + f" to {file}"


def _refuse_half_a_pair(settings: ServeSettings, given: Mapping[str, _Given]) -> None:
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(settings, one) is not None and getattr(settings, other) is None:
            raise InputError(
                f"{given[one].origin}: {flag_of(other)} is not given",
                "a certificate and its key belong together: `cfgsync tls init` makes both",
            )


def _refuse_documents(settings: ServeSettings, given: Mapping[str, _Given], target: str) -> None:
    if target == "documents" and not settings.has_documents:
        raise _NOTHING
    for field in ("validator", "allow_origin"):
        if getattr(settings, field) and not settings.has_documents:
            raise InputError(
                f"{given[field].origin}: this server serves no documents",
                "add --documents, or leave it out",
            )
    if settings.is_static and settings.has_documents:
        field = "documents" if settings.documents else "open_documents"
        raise InputError(
            f"{given[field].origin}: a bundle has no store to keep documents in",
            "give documents a server of their own: cfgsync serve --documents",
        )


def _refuse_rollout(settings: ServeSettings, given: Mapping[str, _Given], target: str) -> None:
    written = [given[name].origin for name in ROLLOUT if name in given]
    if written and (settings.is_static or target == "documents"):
        what = "a bundle" if settings.is_static else "a server of documents alone"
        raise InputError(
            f"{written[0]}: {what} has no generations, and nodes take no turns for it",
            "leave it out; a reload reaches every node at once" if settings.is_static else "leave it out",
        )
    try:
        _ = settings.rollout_policy
    except ValueError as error:
        raise InputError(f"{given['max_parallel'].origin}: {error}", _EXPECTED["max_parallel"]) from error


def _refuse_off_loopback(settings: ServeSettings, given: Mapping[str, _Given]) -> None:
    """What a server opens to every program of its machine, it does not open to others."""
    for field in ("page_contents", "legacy_replace", "open_documents"):
        if getattr(settings, field) and settings.require_tokens:
            raise InputError(
                f"{given[field].origin} opens something to every program of the machine, and --require-tokens forbids that",
                "leave one of them out; a token of a reader or an operator needs neither",
            )
        if getattr(settings, field) and (hosts := open_hosts(settings.host)):
            raise InputError(
                f"{given[field].origin}: host {' and '.join(hosts)} is open to other machines, and this is for loopback only",
                "leave it out; on the server's machine, `cfgsync generation show`, `node replace` and `config` need no flag",
            )
