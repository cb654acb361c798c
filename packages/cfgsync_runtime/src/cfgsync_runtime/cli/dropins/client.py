"""`cfgsync-client`: a drop-in for the original's client, with its variables and messages; it waits longer, and writes
each file whole. Like the original it sends no secret and remembers nothing. It loads neither typer nor an event loop.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final, NoReturn

import msgspec

from cfgsync_artifacts import CfgsyncError, DiskError
from cfgsync_core import (
    IntegrityError,
    InvalidRegistration,
    InvalidServerUrl,
    InvalidTrust,
    NodeRegistration,
    RegistrationPayload,
    ServerUrl,
    Trust,
)

from ...errors import InputError
from ...node.ending import EXIT, Ending
from ...node.fetch import fetch
from ...node.outputs import ArtifactOutputMap, Placeable, Plan
from ..parts.messages import WaitingLine, fail, note
from ..parts.unfailing_stream import open_standard_descriptors, unfailing

USAGE: Final = """\
Usage: cfgsync-client

Register this node, wait for its files, write them. Exit codes: 0 files in place, 1 anything else.

  CFG_SERVER_ADDR                 the server  [http://127.0.0.1:4400]
  LOGOS_BLOCKCHAIN_CFGSYNC_PORT   another port in that default
  CFG_HOST_IP                     this node's IPv4 address  [127.0.0.1]
  CFG_HOST_IDENTIFIER             this node's name  [unidentified-node]
  CFG_REGISTRATION_METADATA_JSON  JSON for the materializer
  CFG_FILE_PATH                   where /config.yaml goes
  CFG_DEPLOYMENT_PATH             where /deployment.yaml goes
  CFG_ALLOW_ANY_PATH              1: write every other file to the path that the server names
  CFGSYNC_WAIT                    how many seconds to wait  [300]
  CFGSYNC_CA_FILE                 the CA certificates that verify an https server
  CFGSYNC_CA_HASH                 the hash of its CA, instead: cfgsync tls show prints it
"""

ROUTES: Final = {
    "/config.yaml": "CFG_FILE_PATH",
    "config.yaml": "CFG_FILE_PATH",
    "/deployment.yaml": "CFG_DEPLOYMENT_PATH",
    "/deployment-settings.yaml": "CFG_DEPLOYMENT_PATH",
    "deployment-settings.yaml": "CFG_DEPLOYMENT_PATH",
}
"""The variable that routes each payload path; the original has no others."""

_SPELLED: Final = {
    "--server": "CFG_SERVER_ADDR",
    "--wait": "CFGSYNC_WAIT",
    "--ca-file": "CFGSYNC_CA_FILE",
    "--ca-hash": "CFGSYNC_CA_HASH",
    "--state, --secret-file": "cfgsync fetch --secret-file: cfgsync-client sends none",
}
"""What hints call by the flags of `cfgsync fetch`, by its name here."""

_WITHOUT_CONTEXT: Final = {EXIT[IntegrityError], EXIT[DiskError]}
"""The exit codes whose messages begin with nothing, as the original's."""


def main() -> NoReturn:
    """Run, and end the process with 0 or 1. Every failure is two lines on stderr, the first with `Error: `."""
    try:
        open_standard_descriptors()
        sys.stderr = unfailing(sys.stderr, 2)
        code = run(sys.argv[1:], os.environ)
    except KeyboardInterrupt:
        code = 130
    os._exit(code)  # nothing is left to do, and taking an interpreter apart costs 15 ms


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """The whole command; its exit code."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE, end="", flush=True)
        return 0
    if arguments:
        note(f"cfgsync-client takes no arguments, {arguments[0]!r} is ignored")
    try:
        client = read_environment(environment)
    except InputError as error:
        return fail(1, f"Error: {error}", error.hint)
    waiting = WaitingLine()
    try:
        ending = fetch(
            client.registration,
            client.server,
            client.outputs,
            None,
            wait=client.wait,
            waiting=waiting,
            notice=note,
        )
    except CfgsyncError as error:
        return fail(1, f"Error: {error}", getattr(error, "hint", ""))
    finally:
        waiting.clear()
    return _end(ending)


class OriginalOutputs(msgspec.Struct, frozen=True):
    """The original's places: two variables route five names; every other file goes to its own path in the payload, if the
    operator lets the server choose (`anywhere`)."""

    places: Mapping[str, str]
    """The values of the variables in `ROUTES`, of those that are set."""
    anywhere: bool = False

    def plan(self, files: Iterable[Placeable]) -> Plan:
        """Place every file. Raises `IntegrityError` when one has no place."""
        files = tuple(files)
        if not files:
            raise IntegrityError("cfgsync payload contains no files")
        return ArtifactOutputMap({file.path: self._place(file.path) for file in files}).plan(files)

    def _place(self, path: str) -> str:
        variable = ROUTES.get(path, "")
        if variable in self.places:
            return self.places[variable]
        if self.anywhere:
            return path
        or_route = f"set {variable} to its place, or " if variable else ""
        raise IntegrityError(
            f"file {path!r} is not routed: {or_route}set CFG_ALLOW_ANY_PATH=1 to write it where the server says"
        )


class Client(msgspec.Struct, frozen=True):
    """The settings in the environment; `wait` in seconds."""

    registration: NodeRegistration
    server: ServerUrl
    outputs: OriginalOutputs
    wait: float


def read_environment(environment: Mapping[str, str]) -> Client:
    """Read the original's variables, with its defaults; an empty one counts as given. Raises `InputError`."""
    address = environment.get("CFG_SERVER_ADDR", f"http://127.0.0.1:{_default_port(environment)}")
    ca_file, ca_hash = environment.get("CFGSYNC_CA_FILE", ""), environment.get("CFGSYNC_CA_HASH", "")
    try:
        server = ServerUrl.parse(address.rstrip("/"), Trust.parse(ca_file, ca_hash))
    except InvalidServerUrl as error:
        raise InputError(f"CFG_SERVER_ADDR: {error}", "set it to the server's URL, or unset it") from error
    except InvalidTrust as error:
        name = "CFGSYNC_CA_FILE" if ca_file else "CFGSYNC_CA_HASH"
        raise InputError(f"{name}: {error}", "correct it, or unset it") from error
    if server.trust and server.scheme == "http":
        why = f"CFG_SERVER_ADDR: CFGSYNC_CA_FILE and CFGSYNC_CA_HASH verify an https server, and {server} is not https"
        raise InputError(why, "set it to https://…, or unset the other")
    ip = environment.get("CFG_HOST_IP", "127.0.0.1")
    try:
        IPv4Address(ip)
    except ValueError as error:
        raise InputError(
            f"CFG_HOST_IP `{ip[:100]}` is not a valid IPv4 address",
            "set it to one address of this node (`hostname -i` may print several)",
        ) from error
    payload = RegistrationPayload()
    if (metadata := environment.get("CFG_REGISTRATION_METADATA_JSON")) is not None:
        try:
            payload = RegistrationPayload.from_json_text(metadata)
        except InvalidRegistration as error:
            raise InputError(
                f"parsing CFG_REGISTRATION_METADATA_JSON: {error.why}", "set it to JSON, or unset it"
            ) from error
    try:
        node = NodeRegistration(environment.get("CFG_HOST_IDENTIFIER", "unidentified-node"), ip, payload)
    except InvalidRegistration as error:
        raise InputError(f"CFG_HOST_IDENTIFIER: {error.why}", "give this node another name") from error
    places = {name: environment[name] for name in dict.fromkeys(ROUTES.values()) if name in environment}
    anywhere = environment.get("CFG_ALLOW_ANY_PATH") == "1"
    return Client(node, server, OriginalOutputs(places, anywhere), _wait(environment))


def _default_port(environment: Mapping[str, str]) -> int:
    """The port in the variable; like the original, 4400 for anything else."""
    text = environment.get("LOGOS_BLOCKCHAIN_CFGSYNC_PORT", "").removeprefix("+")
    if text.isascii() and text.isdigit() and int(text[:9]) <= 65535:
        return int(text[:9])
    return 4400


def _wait(environment: Mapping[str, str]) -> float:
    text = environment.get("CFGSYNC_WAIT") or "300"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"CFGSYNC_WAIT: {text[:100]!r} is not a number of seconds", "300 is the default")
    return seconds


def _end(ending: Ending) -> int:
    report = ending.report
    if not report.exit:
        print(f"{report.identifier}: {report.message}", file=sys.stderr, flush=True)
        return 0
    hint = ending.hint
    for flags, here in _SPELLED.items():
        hint = hint.replace(flags, here)
    if report.exit in _WITHOUT_CONTEXT:
        context = ""
    else:
        context = "fetching node artifacts: " if ending.registered else "registering node with cfgsync: "
    return fail(1, f"Error: {context}{report.message}", hint)
