"""The answers of `GET /status`: the state of the fleet and of each node, what is missing, and why.

`node_state` and `fleet_state` alone decide the states: the first one that is true, in the order of `State` and
`FleetState`. The command, the page and the metrics show them, each with what `NODE_STATES` says of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Protocol, TypeAlias, get_args

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..text import counted, plain
from .protocol import Condition, Missing, NotReady, Ready
from .registration import NodeRegistration
from .rollout_status import RolloutStatus

State: TypeAlias = Literal[
    "not_registered", "failed", "not_ready", "no_files", "not_applied", "applied", "served", "ready"
]
"""The state of a node: the newest run `failed`, or was `not_ready`, and no generation has this node; the generation gives
it `no_files`; the node could not apply its files (`not_applied`), or has (`applied`); its files were `served`; they are
`ready`, and it has not fetched them."""

FleetState: TypeAlias = Literal["empty", "failed", "not_ready", "converging", "converged"]
"""The state of the fleet: no node is registered (`empty`); no generation covers all registrations, because the newest run
`failed` or for another reason (`not_ready`); some nodes have not applied it yet (`converging`), or all have
(`converged`)."""

Colour: TypeAlias = Literal["", "dim", "red", "yellow", "cyan", "green"]


class StateFacts(msgspec.Struct, frozen=True):
    """What is shown of a state: a `letter` in the data of the page's grid, a `colour` on a terminal, and what it means.
    `has_files`: a node in it has files, of a generation or of a bundle."""

    letter: str
    colour: Colour
    meaning: str
    has_files: bool = False


NODE_STATES: Final[dict[State, StateFacts]] = {
    "failed": StateFacts("f", "red", "registered; the newest run of the materializer failed"),
    "not_applied": StateFacts("x", "red", "could not apply its files", has_files=True),
    "no_files": StateFacts("o", "red", "registered; the generation gives it no files"),
    "not_registered": StateFacts("u", "dim", "not registered"),
    "not_ready": StateFacts("n", "yellow", "registered; the materializer is not ready"),
    "ready": StateFacts("r", "", "has not fetched its files yet", has_files=True),
    "served": StateFacts(
        "s", "cyan", "was sent its files, and has not acknowledged them yet", has_files=True
    ),
    "applied": StateFacts("a", "green", "has applied its files", has_files=True),
}
"""Every state of a node. Lists show the nodes in this order: failures first, and the nodes that are done last."""

FLEET_COLOURS: Final[Mapping[str, Colour]] = {
    "empty": "dim",
    "failed": "red",
    "not_ready": "yellow",
    "converging": "cyan",
    "converged": "green",
}

# a client accepts any text, since a later server may have other states; an older server sends none
_NodeStateText: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["", *get_args(State)]})]
_FleetStateText: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"enum": ["", *get_args(FleetState)]})
]


def node_state(
    answer: Ready | Missing | NotReady | CfgsyncError | None,
    *,
    has_failed: bool = False,
    has_applied: bool = False,
    was_served: bool = False,
) -> State:
    """The state of a node. `answer` is what it would get now, None while a run is under way or due. The others are about
    the files in that answer: the node could not apply them, has applied them, was served them."""
    match answer:
        case NotReady(registered=False):
            return "not_registered"
        case Missing():
            return "no_files"
        case Ready():
            if has_failed:
                return "not_applied"
            return "applied" if has_applied else "served" if was_served else "ready"
        case NotReady() | None:
            return "not_ready"
    return "failed"


def fleet_state(registered: int, *, is_covered: bool, has_failed: bool, behind: int) -> FleetState:
    """The state of the fleet. `is_covered`: the current generation covers all registrations; `has_failed`: the newest
    run did; `behind`: how many nodes have not applied what the generation gives them."""
    if not registered:
        return "empty"
    if not is_covered:
        return "failed" if has_failed else "not_ready"
    return "converging" if behind else "converged"


def generation_number(version: str | None) -> str | None:
    """What a person calls a generation: its number, without the 36 characters of its epoch. A static source has digests
    instead, of which eight digits are enough. None without a generation."""
    if not version:
        return None
    return version[7:15] if version.startswith("sha256-") else version.rpartition(".")[2]


class MissingNode(msgspec.Struct, frozen=True):
    """A node that a condition waits for. `last_seen` is RFC 3339, None when this server has never seen it."""

    identifier: str
    last_seen: str | None = None


class NodeBehind(msgspec.Struct, frozen=True):
    """A registered node that has not acknowledged what the current generation gives it, and why."""

    identifier: str
    reason: str = ""


class NodeDrift(msgspec.Struct, frozen=True):
    """A registered node on whose disk files were changed: the first of their payload paths."""

    identifier: str
    paths: tuple[str, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    """One node as the server sees it. `keepalive`: it promised to be heard of within so many seconds, None for a node that
    promised nothing. `served` and `applied` are generation text (from a static source digests), `last_seen` is RFC 3339. `rebound`
    is there when another secret has taken this name, and counts how often since this server started; `superseded`
    counts held requests that a newer request of the same name has ended. `drifted` are payload paths whose files were
    changed on the node's disk, at most 10. `overdue`: it was last heard of so many seconds ago, longer than it promised.

    `reason` is one sentence; its parts as data are `state` (`""` from an older server), `because` (the text of the
    materializer, its error, or the node's own failure), `conditions`, and the nodes that are `missing`.
    """

    identifier: str
    registered: bool = False
    waiting: bool = False
    served: str | None = None
    applied: str | None = None
    last_failure: str | None = None
    last_seen: str | None = None
    reason: str = ""
    state: _NodeStateText = ""
    because: str = ""
    conditions: tuple[Condition, ...] = ()
    missing: tuple[MissingNode, ...] = ()
    rebound: int | msgspec.UnsetType = msgspec.UNSET
    superseded: int | msgspec.UnsetType = msgspec.UNSET
    drifted: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    keepalive: int | None = None
    overdue: int | msgspec.UnsetType = msgspec.UNSET


def last_seen(node: NodeStatus) -> str:
    """When a node was last seen, in words. One that registered before the server's restart may not have been seen since."""
    return node.last_seen or ("not since restart" if node.registered else "never")


CERTIFICATE_ENDS_SOON: Final = 30
"""Days before the end of a server's certificate from which its log, its status and its page warn."""


class TlsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate that the server shows: when it ends, in how many days (negative: it has), and what is wrong with newer
    files, or ""."""

    ends: str
    days_left: int
    problem: str = ""

    @property
    def warning(self) -> str:
        """What to say of a certificate that ends soon, has ended or cannot be replaced; "" for another."""
        if self.problem or self.days_left >= CERTIFICATE_ENDS_SOON:
            return self.problem
        return "it has expired" if self.days_left < 0 else f"it ends in {counted(self.days_left, 'day')}"


class ServerStatus(msgspec.Struct, frozen=True):
    """One of the servers that share a store: `MACHINE:PORT`, and the revision of the registrations and the generation that it
    had read when it was `seen` last, so many seconds ago. `is_silent`: for longer than a server that runs. The first of a list
    is the one that answers."""

    name: str
    revision: int = 0
    generation: str | None = None
    seen: int = 0
    is_silent: bool = False

    @property
    def words(self) -> str:
        """Name, and how far it has read."""
        read = f"{plain(self.name, 100)} at revision {self.revision}"
        return (
            f"{read}, silent for {self.seen} s"
            if self.is_silent
            else f"{read} {self.seen} s ago"
            if self.seen
            else read
        )


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet. `registered` and `waiting` are counts, `revision` the registrations' number, `pending` says that a run
    of the materializer is under way or due. `held_back` is there, and true, when a frozen generation was made without what `reason` names, and
    only `cfgsync generation rebuild` takes it in. `insecure` is there when the server is open to other machines and lacks
    something: "no-tls", "no-auth"; `tls` when it speaks TLS.

    `counts` has the number of nodes in each state; `not_registered` are the `missing` ones. `applied` counts the nodes
    that have acknowledged what the current generation gives them, and `behind` names the first of those `behind_count` that have not. `converged`: a generation covers all registrations, and no
    node is behind; an older server leaves it out. `missing` are the nodes that the conditions wait for. `drifted`
    names the first of the `drifted_count` nodes on whose disks files were changed; both are absent when no file was changed.
    `servers` is there when several servers may share the store.
    `rollout` is absent where no node takes turns.
    """

    generation: str | None = None
    state: _FleetStateText = ""
    revision: int = 0
    registered: int
    waiting: int
    pending: bool = False
    held_back: bool | msgspec.UnsetType = msgspec.UNSET
    reason: str = ""
    conditions: tuple[Condition, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    counts: dict[str, int] = {}
    applied: int = 0
    behind: tuple[NodeBehind, ...] = ()
    behind_count: int = 0
    converged: bool | msgspec.UnsetType = msgspec.UNSET
    missing: tuple[MissingNode, ...] = ()
    insecure: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    tls: TlsStatus | msgspec.UnsetType = msgspec.UNSET
    drifted: tuple[NodeDrift, ...] | msgspec.UnsetType = msgspec.UNSET
    drifted_count: int | msgspec.UnsetType = msgspec.UNSET
    servers: tuple[ServerStatus, ...] | msgspec.UnsetType = msgspec.UNSET
    rollout: RolloutStatus | msgspec.UnsetType = msgspec.UNSET


class StatusSource(Protocol):
    """A source that answers `/status` and `/readyz`."""

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """The fleet's counts, and the nodes of `nodes(limit, after)`."""

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        """The first `limit` nodes after identifier `after`, in identifier order."""

    def node(self, identifier: str) -> NodeStatus:
        """One node, and why it is in its state; `registered` is False for a name that is unknown here."""

    async def ping(self) -> None:
        """Return when the store answers; raise `Unavailable` when it does not."""


class NodeDetails(Protocol):
    """A source that knows what its nodes registered with, and what each is given."""

    def registration(self, identifier: str) -> NodeRegistration | None:
        """The registration; None when the node has not registered."""

    def given(self, identifier: str) -> Ready | None:
        """The files that the node would get now, if it gets any."""

    def is_replaced(self, identifier: str) -> bool:
        """True when an operator gave the node's own files."""
