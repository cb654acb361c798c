"""The flags of `cfgsync fetch` as values; an invalid one is a usage error that names the flag."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import Final, TypeVar

import typer

from cfgsync_core import InvalidRegistration, InvalidServerUrl, RegistrationPayload

from ...node.degraded_start import WAIT, ConfigStartupMode
from ...node.outputs import ArtifactOutputMap, OutputDirectory

T = TypeVar("T")

MAX_METADATA_FILE_BYTES: Final = 1024 * 1024
DEFAULT_WAIT: Final = 300.0


def seconds(flag: str, value: float) -> float:
    """A number of seconds. Raises `BadParameter`."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number of seconds", param_hint=flag)
    return value


def wait_of(wait: float | None, mode: ConfigStartupMode) -> float:
    """Seconds to wait for files: the default is short where cached files replace them."""
    if wait is None:
        return WAIT if mode is ConfigStartupMode.DEGRADED else DEFAULT_WAIT
    return seconds("--wait", wait)


def stale_of(ctx: typer.Context, max_stale: float | None, mode: ConfigStartupMode) -> float | None:
    """Seconds for which a cached payload is good. Raises `BadParameter`."""
    if max_stale is None:
        return None
    if (
        mode is ConfigStartupMode.FAIL_CLOSED
        and is_flag(ctx, "startup_mode")
        and not is_flag(ctx, "max_stale")
    ):
        return None  # a flag wins over a variable that says the opposite
    if mode is not ConfigStartupMode.DEGRADED:
        raise typer.BadParameter("it is for --startup-mode degraded only", param_hint="--max-stale")
    return seconds("--max-stale", max_stale)


def outputs(ctx: typer.Context, out: str | None, route: list[str]) -> OutputDirectory | ArtifactOutputMap:
    """Where the files go. Raises `BadParameter`."""
    if out and route:
        # A flag beats the environment; two flags, or two variables, contradict each other.
        by_hand = {name for name in ("out", "route") if is_flag(ctx, name)}
        if by_hand == {"out"}:
            route = []
        elif by_hand == {"route"}:
            out = None
    if bool(out) == bool(route):
        both = "both are given" if out else "neither is given"
        raise typer.BadParameter(f"{both}: give --out DIR, or --route PATH=TARGET for each file")
    if out:
        return OutputDirectory(out)
    routed: set[str] = set()
    for text in route:
        path, _, target = text.partition("=")
        if not path or not target:
            raise typer.BadParameter(f"{text!r} is not PATH=TARGET", param_hint="--route")
        if not path.startswith("/"):
            raise typer.BadParameter(f"PATH begins with a slash: /{text}", param_hint="--route")
        if path in routed and "=" not in target:
            raise typer.BadParameter(f"{path!r} is routed twice", param_hint="--route")
        routed.add(path)
    return ArtifactOutputMap(unsplit=tuple(route))


def refuse_one_directory(state: str, places: OutputDirectory | ArtifactOutputMap) -> None:
    """Refuse a --state that is --out: a watcher locks its output directory as long as it runs. Raises `BadParameter`."""
    if isinstance(places, OutputDirectory) and os.path.realpath(state) == os.path.realpath(places.directory):
        raise typer.BadParameter(
            "it is the directory of --out, where --watch keeps nothing but the files: name another",
            param_hint="--state",
        )


def is_flag(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def payload(metadata: str | None) -> RegistrationPayload:
    """The value of `--metadata`, or of the file it names. Raises `BadParameter`."""
    if metadata is None:
        return RegistrationPayload()
    text = metadata
    if metadata.startswith("@"):
        try:
            with open(metadata[1:], encoding="utf-8") as file:
                text = file.read(MAX_METADATA_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise typer.BadParameter(f"{metadata[1:]}: {why}", param_hint="--metadata") from error
    made = parsed("--metadata", text, RegistrationPayload.from_json_text)
    _refuse_keys_twice(text)
    return made


def _refuse_keys_twice(text: str) -> None:
    """A person who writes a key twice means one of them, and nobody knows which. (On the wire the last one wins.)"""

    def members(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise typer.BadParameter(f"the key {key[:80]!r} is given twice", param_hint="--metadata")
            seen.add(key)

    json.loads(text, object_pairs_hook=members)


def refuse_unreachable(ip: str) -> None:
    """Refuse an address at which no peer can reach a node. Raises `BadParameter`."""
    from ipaddress import ip_address  # 4 ms that `auto` does not spend

    address = ip_address(ip)
    address = getattr(address, "ipv4_mapped", None) or address
    kinds = {
        "unspecified": address.is_unspecified,
        "broadcast": str(address) == "255.255.255.255",
        "multicast": address.is_multicast,
        "link-local": address.is_link_local,
    }
    for kind, is_it in kinds.items():
        if is_it:
            why = f"{ip} is {kind}, so no peer can reach this node there: give its own address, or auto"
            raise typer.BadParameter(why, param_hint="--ip")


def parsed(flag: str, text: str, parse: Callable[[str], T]) -> T:
    """`parse(text)`; what it refuses is a usage error of this flag."""
    try:
        return parse(text)
    except (InvalidRegistration, InvalidServerUrl) as error:
        raise typer.BadParameter(getattr(error, "why", str(error)), param_hint=flag) from error
