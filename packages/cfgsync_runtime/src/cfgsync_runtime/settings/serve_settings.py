"""The settings of `serve`, each checked, and the names of its flag and its variable."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Final, Literal, TypeAlias

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from cfgsync_adapter import Rollout
from cfgsync_adapter.rollout import is_share

from ..access.insecure import InsecureOption, is_loopback, lacking_of
from .durations import seconds_of
from .server_file import BundleServer
from .variables import Variable, variable_of

Duration: TypeAlias = Annotated[
    float, BeforeValidator(lambda given: seconds_of(given) if isinstance(given, str) else given)
]
"""Seconds, or text such as `90` or `1h30m`."""


def _share(text: str) -> str:
    if not is_share(text):
        raise ValueError("not a number of nodes, and not a share such as 10%")
    return text


Share: TypeAlias = Annotated[str, AfterValidator(_share)]
"""A number of nodes, or a percentage of them."""


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"not an address or a network: {error}") from error


def _origin(text: str) -> str:
    if re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d+)?", text.lower()) is None:
        raise ValueError("not an origin")
    return text.lower()


class ServeSettings(pydantic.BaseModel):
    """The settings of `serve`, made by `read_serve_settings`. A field with a description is a flag, shown with its title.

    At most one of `materializer` (a MODULE:CLASS, not loaded yet) and `server` (a bundle or server file, read) is set; neither
    with `documents` alone.
    `revision` None means the materializer's own.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )

    materializer: str | None = None
    server: BundleServer | None = None
    store: str = Field(
        min_length=1,
        title="URL",
        description="sqlite:FILE, postgresql://HOST/DATABASE or memory:  [default: below $XDG_STATE_HOME/cfgsync]",
    )
    host: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]+$")], ...] = Field(
        ("127.0.0.1",),
        min_length=1,
        title="ADDRESS",
        description="The address to listen on; may be repeated, and :: is IPv4 too.  [default: 127.0.0.1]",
    )
    port: int = Field(4400, ge=0, le=65535, title="PORT", description="0 takes a free one.  [default: 4400]")
    admin_socket: str | None = Field(
        None,
        min_length=1,
        title="PATH",
        description="The Unix socket for operator commands.  [default: where they look for it]",
    )
    json_logs: bool = Field(False, description="Log JSON lines.")
    late: Literal["follow", "freeze"] = Field(
        "follow",
        title="follow|freeze",
        description="Nodes that come after a generation is published get a new one, or none until generation rebuild.  [default: follow]",
    )
    signing_key: str | None = Field(
        None,
        min_length=1,
        title="FILE",
        description="Sign what nodes get with this private key (`cfgsync bundle keygen` makes one).",
    )
    materializer_user: str | None = Field(
        None,
        min_length=1,
        title="NAME",
        description="Run the materializer as this user; the server must be started by root.",
    )
    revision: str | None = Field(
        None, title="TEXT", description="The program's version: another one makes a new generation."
    )
    debug: bool = Field(
        False,
        description="Run the materializer in the server's process: breakpoint() works, and --run-timeout is off.",
    )
    run_timeout: Duration = Field(
        60.0, gt=0, title="DURATION", description="Deadline of one materializer run (90, 5m).  [default: 60]"
    )
    ttl: Duration | None = Field(
        None,
        gt=0,
        title="DURATION",
        description="Remove a node that promised to keep in touch and has been silent for this long.  [default: no node is removed]",
    )
    shrink_guard: float = Field(
        50.0,
        ge=0,
        le=100,
        title="PERCENT",
        description="Refuse a result that leaves out more than this share of the fleet; 0 turns it off.  [default: 50]",
    )
    rollout: Literal["rolling", "all"] = Field(
        "rolling",
        title="rolling|all",
        description="Nodes that run a command take turns when their files change, or all change at once.  [default: rolling]",
    )
    max_parallel: Share = Field(
        "10%",
        title="N|P%",
        description="How many nodes of a group may change at the same time, failed ones included.  [default: 10%, at least 1]",
    )
    canary: int = Field(
        0,
        ge=0,
        title="N",
        description="Stop a change after so many nodes, until cfgsync rollout resume.  [default: 0]",
    )
    bake: Duration = Field(
        0.0,
        ge=0,
        title="DURATION",
        description="Keep a turn so much longer than the node needs.  [default: 0]",
    )
    deadline: Duration = Field(
        300.0,
        gt=0,
        title="DURATION",
        description="A turn without a word for this long has failed.  [default: 5m]",
    )
    max_failures: Share = Field(
        "0",
        title="N|P%",
        description="More failed nodes than this halt a change: a number, or a share of all that take turns.  [default: 0]",
    )
    on_failure: Literal["halt", "revert"] = Field(
        "halt",
        title="halt|revert",
        description="After too many failures: stop, or go back to the last files that all nodes came through.  [default: halt]",
    )
    tls_cert: str | None = Field(
        None,
        min_length=1,
        title="FILE",
        description="Serve over TLS: the certificate, and its CA after it. A changed file is read again.",
    )
    tls_key: str | None = Field(
        None,
        min_length=1,
        title="FILE",
        description="The key of --tls-cert; one is not given without the other.",
    )
    trusted_proxy: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        (),
        title="CIDR",
        description="A proxy's address or network, whose X-Forwarded-For the log believes; may be repeated.",
    )
    require_tokens: bool = Field(
        False, description="On loopback, too, as behind a proxy: nodes need a join token, readers a token."
    )
    allow_anonymous: bool = Field(
        False, description="With tokens required: take nodes that have neither secret nor token."
    )
    insecure_no_tls: bool = Field(False, description="Off loopback: serve without TLS.")
    insecure_no_auth: bool = Field(
        False, description="Off loopback: anyone may join and read, and another secret re-binds."
    )
    legacy_init_with_node: bool = Field(
        False, description="Answer /init-with-node as /node, for the oldest clients."
    )
    legacy_replace: bool = Field(
        False, description="On loopback: take POST /node/replace from any program of this machine."
    )
    documents: bool = Field(
        False, description="Serve config documents, too; without a materializer nothing else."
    )
    open_documents: bool = Field(
        False,
        description="On loopback, for development: serve documents that every program of this machine reads and writes.",
    )
    allow_origin: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        (),
        title="ORIGIN",
        description="A web page of this origin (https://HOST) may watch documents, as the server's own; may be repeated.",
    )
    validator: str | None = Field(
        None,
        min_length=1,
        title="MODULE:CLASS",
        description="Judge each write of documents with its `validate(scope, before, after)`, which returns what is wrong.",
    )
    no_page: bool = Field(False, description="Do not serve the page of the fleet, GET /.")
    expose_errors: bool = Field(
        False,
        description="On loopback: show nodes and /status the words of a failure, which may hold a secret.",
    )
    page_contents: bool = Field(False, description="On loopback: show the contents of files on the page.")
    title: str | None = Field(
        None,
        max_length=100,
        title="TEXT",
        description="The name of the fleet on its page.  [default: this host's name]",
    )

    @property
    def rollout_policy(self) -> Rollout:
        """How a change reaches nodes that take turns. Raises `ValueError` for a share of no nodes."""
        return Rollout(*(getattr(self, name) for name in ROLLOUT))

    @property
    def has_documents(self) -> bool:
        """Whether the server serves documents."""
        return self.documents or self.open_documents

    @property
    def requires_tokens(self) -> bool:
        """Whether nodes join with a token, and readers show one: off loopback, unless the operator switched it off."""
        return self.require_tokens or not (is_loopback(self.host) or self.insecure_no_auth)

    @property
    def is_static(self) -> bool:
        """Whether no node has to register, so that there is no store."""
        return self.server is not None and not self.server.registered_only

    @property
    def lacking(self) -> tuple[InsecureOption, ...]:
        """The protections that the operator allows a server off loopback to lack; none on loopback."""
        no_tls = self.insecure_no_tls and self.tls_cert is None
        return lacking_of(self.host, no_tls=no_tls, no_auth=self.insecure_no_auth)


ROLLOUT: Final = ("rollout", "max_parallel", "canary", "bake", "deadline", "max_failures", "on_failure")
"""The settings of a rollout, in the order of `Rollout`."""

REPEATED: Final = frozenset({"host", "trusted_proxy", "allow_origin"})
"""The flags that may be repeated; in a variable, commas or line ends separate the values."""


def flag_of(field: str) -> str:
    """The flag of a field of the settings."""
    return "MODULE:CLASS" if field == "materializer" else "--" + field.replace("_", "-")


def variable_of_field(field: str) -> Variable:
    """The variable of a field of the settings."""
    return variable_of("serve", field.replace("_", "-"))
