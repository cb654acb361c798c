"""The flags of `cfgsync fetch`: the one list that its reader, its help and the reference are made of. A new flag is one
field here."""

from typing import Annotated, Final

import msgspec

from ....node.degraded_start import ConfigStartupMode
from ....node.drift import OnDrift
from ....node.on_changes import OnChange
from ..plain_line import Flag

DEFAULT_SERVER: Final = "http://127.0.0.1:4400"


class FetchArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a command line of `cfgsync fetch` and its variables say."""

    identifier: Annotated[str, Flag("ID", "This node's name.", name="--id")]
    server: Annotated[
        str,
        Flag("URL", "The server's URL, or several with commas: another is asked when one does not answer."),
    ] = DEFAULT_SERVER
    ip: Annotated[str, Flag("IP", "This node's address; auto: the one that routes to the server.")] = "auto"
    metadata: Annotated[str | None, Flag("JSON", "JSON for the materializer, or @FILE that holds it.")] = None
    out: Annotated[
        str | None, Flag("DIR", "Directory; the files appear below DIR/current, all in one step.")
    ] = None
    route: Annotated[
        list[str] | None,
        Flag(
            "PATH=TARGET",
            "Send the file PATH to TARGET; repeat for each file. Each file is whole at any moment, but the set is"
            " not written in one step: run again to finish an interrupted one.",
        ),
    ] = None
    wait: Annotated[
        str | None, Flag("DURATION", "How long to wait for files (90, 5m).  [default: 300, or 5]")
    ] = None
    state: Annotated[
        str | None,
        Flag(
            "DIR",
            "Where this node remembers its secret and what it saw.  [default: below $XDG_STATE_HOME/cfgsync]",
        ),
    ] = None
    secret_file: Annotated[
        str | None, Flag("FILE", "The node's secret, kept elsewhere; the file must exist.")
    ] = None
    token_file: Annotated[
        str | None, Flag("FILE", "The join token with which a new node joins: cfgsync token create.")
    ] = None
    rotate_secret: Annotated[
        bool, Flag(None, "Replace the node's secret by a new one when its files are in place.")
    ] = False
    ca_file: Annotated[str | None, Flag("FILE", "The CA certificates that verify an https server.")] = None
    ca_hash: Annotated[
        list[str] | None,
        Flag(
            "sha256:HEX",
            "The hash of the server's CA, instead: cfgsync tls show prints it; repeat to trust another one too.",
        ),
    ] = None
    verify_key: Annotated[
        list[str] | None,
        Flag(
            "FILE",
            "Take only files that are signed with this public key; repeat to trust another one too.",
        ),
    ] = None
    startup_mode: Annotated[
        ConfigStartupMode,
        Flag(
            "fail-closed|degraded",
            "degraded: without an answer in time (5 s if --wait is not given), start with the last good files.",
        ),
    ] = ConfigStartupMode.FAIL_CLOSED
    max_stale: Annotated[
        str | None, Flag("DURATION", "How long ago a server may have confirmed those files (90, 1h).")
    ] = None
    watch: Annotated[
        bool, Flag(None, "Stay: write the files again whenever they change, and restart COMMAND.")
    ] = False
    on_change: Annotated[
        OnChange | None,
        Flag("restart|signal|command|nothing", "How COMMAND learns of changed files.  [default: restart]"),
    ] = None
    reload: Annotated[
        str | None,
        Flag("SIGNAL", "Send COMMAND this signal (SIGHUP, 1) when files change, instead of restarting it."),
    ] = None
    reload_command: Annotated[
        str | None,
        Flag(
            "COMMAND",
            "Run this shell line when files change, instead; also for a program that cfgsync does not start.",
        ),
    ] = None
    check: Annotated[
        str | None,
        Flag(
            "COMMAND",
            "Run this shell line on new files first, in $CFGSYNC_STAGED; unless it exits with 0, the old files stay. At the"
            " start COMMAND then does not start (exit 9), but with --watch --startup-mode degraded on the old files.",
        ),
    ] = None
    splay: Annotated[
        str | None,
        Flag(
            "DURATION",
            "Wait a random part of this (30, 5m) before each restart, signal or reload command, so that a fleet does not restart at once.",
        ),
    ] = None
    on_drift: Annotated[
        OnDrift | None,
        Flag(
            "repair|report",
            "Files that were changed on this machine are restored, or only reported."
            "  [default: repair; report with --route]",
        ),
    ] = None
    stop_timeout: Annotated[
        str | None,
        Flag("DURATION", "At a restart, kill COMMAND so long after SIGTERM.  [default: 10]"),
    ] = None
    healthy_after: Annotated[
        str | None,
        Flag(
            "DURATION",
            "COMMAND must live so long after a change before the change counts as applied; if it ends with another exit code"
            " than 0 before that, the last good files come back.  [default: 5 when it is restarted, else 0]",
        ),
    ] = None
    health: Annotated[
        str | None,
        Flag(
            "COMMAND",
            "After a change, run this shell line each second until it exits with 0; if it never does, the last good files come"
            " back.",
        ),
    ] = None
    health_within: Annotated[str | None, Flag("DURATION", "How long that may take.  [default: 60]")] = None
    rollout_group: Annotated[
        str | None,
        Flag(
            "NAME",
            "The nodes of one group change in turns, the groups side by side: a server that rolls out a change decides which"
            " node is next.  [default: default]",
        ),
    ] = None
    json: Annotated[bool, Flag(None, "Print one JSON object at the end.")] = False
    chown: Annotated[
        str | None,
        Flag(
            "USER[:GROUP]",
            "The owner of the files, by names or numbers. Without it a target of --route keeps its owner and group.",
        ),
    ] = None
    keep: Annotated[
        int | None,
        Flag(
            "N",
            "How many sets of files before the current one stay in --out; younger than 10 minutes they stay anyway."
            "  [default: 3]",
            least=0,
            most=1000,
        ),
    ] = None

    start: list[str] = []
    """COMMAND, which follows `--`."""
    by_hand: frozenset[str] = frozenset()
    """The fields that flags gave; the others are of variables, or defaults."""
