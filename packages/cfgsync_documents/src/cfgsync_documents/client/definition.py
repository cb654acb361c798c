"""What an application declares, and what it gets back: a definition, how it starts, and how its registration ended."""

from __future__ import annotations

from enum import Enum
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from cfgsync_artifacts import CfgsyncError
from cfgsync_core.follow import ReaderState

T = TypeVar("T")


class ConfigDefinition(Generic[T]):
    """A document and the type it is read as: a Struct, a dataclass or a pydantic model. `default` is its value until an
    operator writes another one, and again after the document was deleted."""

    __slots__ = ("default", "key", "namespace", "type")

    def __init__(self, namespace: str, key: str, type: type[T], *, default: T) -> None:
        self.namespace = namespace
        self.key = key
        self.type = type
        self.default = default

    def __repr__(self) -> str:
        return f"ConfigDefinition({self.namespace!r}, {self.key!r}, {self.type.__name__})"

    def default_json(self) -> str:
        """The default as JSON."""
        dump: Any = getattr(
            self.default, "model_dump_json", None
        )  # of a pydantic model, which is not imported here
        return msgspec.json.encode(self.default).decode() if dump is None else str(dump())


class ConfigStartupMode(Enum):
    """What a registration does when the server does not answer."""

    FAIL_CLOSED = "fail_closed"
    """It raises `ConfigRegistrationException`."""
    DEGRADED = "degraded"
    """It takes the value from the cache on disk, if there is one, and goes on trying."""


Status: TypeAlias = Literal["READY", "DEGRADED", "NOT_READY", "ALREADY_REGISTERED", "REJECTED"]


class ConfigRegistrationResult(msgspec.Struct, frozen=True):
    """How a registration ended; `reason` is one of the fixed words of the documentation, `""` for READY."""

    status: Status
    reason: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether the definition has a value."""
        return self.status in ("READY", "DEGRADED")


class ConfigStatus(msgspec.Struct, frozen=True):
    """How current a value is: the state of its reader, the version that was applied last, the seconds since a server
    confirmed it, and why it is not current, or `""`. `read` and `hinted` are the seconds since a read was answered, and since
    the server, or a bus, said that there is news. None: never. After a degraded start `version` is that of the cache, and `age`
    the time since it was written, until a server answers."""

    state: ReaderState
    version: str
    age: float | None
    error: str
    read: float | None = None
    hinted: float | None = None


class ConfigUpdate(msgspec.Struct, frozen=True):
    """A value of a watched document: its JSON, decoded. An absent one has `data` None, revision 0, and `deleted`."""

    name: str
    data: Any
    revision: int
    deleted: bool = False


class ConfigRegistrationException(CfgsyncError):
    """A registration with FAIL_CLOSED failed, and nothing is registered: start without the value, or end."""

    def __init__(self, words: str, definition: ConfigDefinition[Any], app: str, env: str, why: str) -> None:
        where = f"app={app}, env={env}, namespace={definition.namespace}, key={definition.key}"
        super().__init__(f"{words} ({where}){f': {why}' if why else ''}")
        self.definition = definition
        self.why = why


class ConfigNotRegistered(CfgsyncError):
    """A definition was read before it was registered: await `manager.register(definition, …)` first."""


class ConfigNotReady(CfgsyncError):
    """A definition is registered and has no value yet: look at `status` of its registration."""
