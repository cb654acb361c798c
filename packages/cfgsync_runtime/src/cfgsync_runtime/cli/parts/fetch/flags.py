"""The flags of `cfgsync fetch` as values; an invalid one is a usage error that names the flag."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from cfgsync_core import (
    InvalidRegistration,
    InvalidServerUrl,
    InvalidTrust,
    RegistrationPayload,
    ServerUrl,
    Trust,
)
from cfgsync_core.text import path_shown

from ....errors import InputError
from ....node.degraded_start import WAIT, ConfigStartupMode
from ....node.memory.state import NO_SECRET_FILE
from ....node.outputs import ArtifactOutputMap, OutputDirectory
from ....settings.durations import seconds_of
from .arguments import FetchArguments

T = TypeVar("T")

MAX_METADATA_FILE_BYTES: Final = 1024 * 1024
DEFAULT_WAIT: Final = 300.0


class UnusableFlag(InputError):
    """A flag that cannot be used, in the words of a usage error."""

    def __init__(self, why: str, flag: str = "") -> None:
        of = f" for {flag}" if flag else ""
        super().__init__(f"cfgsync fetch: Invalid value{of}: {why}", "see: cfgsync fetch --help")


def server_of(flags: FetchArguments) -> ServerUrl:
    """The servers, and what verifies them. Raises `UnusableFlag`."""
    at = parsed("--server", flags.server, ServerUrl.parse_several)
    ca_file, ca_hash = flags.ca_file or "", ",".join(flags.ca_hash or ())
    if ca_file and ca_hash:  # a flag beats a variable
        by_hand = flags.by_hand & {"ca_file", "ca_hash"}
        if by_hand == {"ca_file"}:
            ca_hash = ""
        elif by_hand == {"ca_hash"}:
            ca_file = ""
    flag = "--ca-file" if ca_file else "--ca-hash"
    trust = parsed(flag, ca_file, lambda _: Trust.parse(ca_file, ca_hash))
    plain = next((one for one in at.each if one.scheme == "http"), None)
    if trust and plain is not None:
        raise UnusableFlag(
            f"it verifies an https server, and {plain} is not https: give --server https://…", flag
        )
    return at.trusting(trust)


def duration(flag: str, text: str) -> float:
    """Seconds, as `seconds_of` reads them. Raises `UnusableFlag`."""
    try:
        return seconds_of(text)
    except ValueError as error:
        raise UnusableFlag(str(error), flag) from None


def wait_of(wait: str | None, mode: ConfigStartupMode) -> float:
    """Seconds to wait for files: the default is short where cached files replace them. Raises `UnusableFlag`."""
    if wait is None:
        return WAIT if mode is ConfigStartupMode.DEGRADED else DEFAULT_WAIT
    return duration("--wait", wait)


def stale_of(flags: FetchArguments) -> float | None:
    """Seconds for which a cached payload is good. Raises `UnusableFlag`."""
    mode, by_hand = flags.startup_mode, flags.by_hand
    if flags.max_stale is None:
        return None
    if mode is ConfigStartupMode.FAIL_CLOSED and "startup_mode" in by_hand and "max_stale" not in by_hand:
        return None  # a flag wins over a variable that says the opposite
    if mode is not ConfigStartupMode.DEGRADED:
        raise UnusableFlag("it is for --startup-mode degraded only", "--max-stale")
    return duration("--max-stale", flags.max_stale)


def outputs(flags: FetchArguments) -> OutputDirectory | ArtifactOutputMap:
    """Where the files go. Raises `UnusableFlag`."""
    out, route = flags.out, flags.route or []
    if out and route:
        # A flag beats the environment; two flags, or two variables, contradict each other.
        by_hand = flags.by_hand & {"out", "route"}
        if by_hand == {"out"}:
            route = []
        elif by_hand == {"route"}:
            out = None
    if bool(out) == bool(route):
        both = "both are given" if out else "neither is given"
        raise UnusableFlag(f"{both}: give --out DIR, or --route PATH=TARGET for each file")
    if out:
        return OutputDirectory(out)
    routed: set[str] = set()
    for text in route:
        path, _, target = text.partition("=")
        if not path or not target:
            raise UnusableFlag(f"{text!r} is not PATH=TARGET", "--route")
        if not path.startswith("/"):
            raise UnusableFlag(f"PATH begins with a slash: /{text}", "--route")
        if path in routed and "=" not in target:
            raise UnusableFlag(f"{path!r} is routed twice", "--route")
        routed.add(path)
    return ArtifactOutputMap(unsplit=tuple(route))


def refuse_one_directory(state: str, places: OutputDirectory | ArtifactOutputMap) -> None:
    """Refuse a --state that is --out: a watcher locks its output directory as long as it runs. Raises `UnusableFlag`."""
    if isinstance(places, OutputDirectory) and os.path.realpath(state) == os.path.realpath(places.directory):
        raise UnusableFlag(
            "it is the directory of --out, where --watch keeps nothing but the files: name another",
            "--state",
        )


def refuse_missing_secret(file: str | None) -> None:
    """Refuse a --secret-file that does not exist. Raises `UnusableFlag`."""
    if file is not None and not os.path.exists(file):
        raise UnusableFlag(f"there is no file {path_shown(file)}: {NO_SECRET_FILE}", "--secret-file")


def say_whether_verified(keys: list[str] | None, environment: Mapping[str, str] = os.environ) -> None:
    """Say that an empty `CFGSYNC_VERIFY_KEY` verifies nothing: it counts as not set. Raises `UnusableFlag` for a blank one, which
    does not, and for a blank name of a key's file."""
    given = environment.get("CFGSYNC_VERIFY_KEY")
    if keys is None and given == "":
        line = "warning: CFGSYNC_VERIFY_KEY is empty, which counts as not set: no signature is verified\n"
        print(line, end="", file=sys.stderr, flush=True)
    if any(not key.strip() for key in keys or ()) or (keys is None and given and not given.strip()):
        raise UnusableFlag(
            "it is blank: name the file with the public key, or leave it out; then no signature is verified",
            "--verify-key",
        )


def is_flag(ctx: Any, name: str) -> bool:
    """Whether the command line gave it; `ctx` is typer's."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def payload(metadata: str | None) -> RegistrationPayload:
    """The value of `--metadata`, or of the file it names. Raises `UnusableFlag`."""
    if metadata is None:
        return RegistrationPayload()
    text = metadata
    if metadata.startswith("@"):
        try:
            with open(metadata[1:], encoding="utf-8") as file:
                text = file.read(MAX_METADATA_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise UnusableFlag(f"{metadata[1:]}: {why}", "--metadata") from error
    made = parsed("--metadata", text, RegistrationPayload.from_json_text)
    _refuse_keys_twice(text)
    return made


def _refuse_keys_twice(text: str) -> None:
    """Refuse a key that is given twice: it is not clear which value is meant. (On the wire the last one wins.)"""

    def members(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise UnusableFlag(f"the key {key[:80]!r} is given twice", "--metadata")
            seen.add(key)

    json.loads(text, object_pairs_hook=members)


def refuse_unreachable(ip: str) -> None:
    """Refuse an address at which no peer can reach a node. Raises `UnusableFlag`."""
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
            raise UnusableFlag(why, "--ip")


def parsed(flag: str, text: str, parse: Callable[[str], T]) -> T:
    """`parse(text)`; what it refuses is a usage error of this flag."""
    try:
        return parse(text)
    except (InvalidRegistration, InvalidServerUrl, InvalidTrust) as error:
        raise UnusableFlag(getattr(error, "why", str(error)), flag) from error
