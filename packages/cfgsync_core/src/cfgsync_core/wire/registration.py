"""A node's registration: its name, its address, and the metadata that the application wants."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from ..errors import InvalidRegistration, MetadataMismatch
from . import strict_json
from .limits import MAX_IDENTIFIER, MAX_METADATA_BYTES, MAX_METADATA_DEPTH

T = TypeVar("T")

Identifier: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "pattern": r"^[A-Za-z0-9]((\.?[A-Za-z0-9_-])*\.?[A-Za-z0-9])?$",
            "maxLength": MAX_IDENTIFIER,
        }
    ),
]

_IDENTIFIER = re.compile(rf"[A-Za-z0-9]([A-Za-z0-9._-]{{0,{MAX_IDENTIFIER - 2}}}[A-Za-z0-9])?", re.ASCII)

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def check_identifier(identifier: object) -> str:
    """Return `identifier` if it is valid. Raises `InvalidRegistration`, which names the rule."""
    if not isinstance(identifier, str):
        raise InvalidRegistration("identifier", f"expected text, got {type(identifier).__name__}")
    if not _follows_the_rule(identifier):
        raise InvalidRegistration(
            "identifier",
            f"1 to {MAX_IDENTIFIER} of A-Z a-z 0-9 . _ -, beginning and ending with a letter or digit, without '..'",
        )
    return identifier


@lru_cache(maxsize=16_384)  # a node repeats its name
def _follows_the_rule(identifier: str) -> bool:
    return _IDENTIFIER.fullmatch(identifier) is not None and ".." not in identifier


def check_ip(ip: str) -> str:
    """Return `ip` in its usual spelling: strict IPv4, or IPv6. Raises `InvalidRegistration`."""
    # each node has its own address, and parsing one costs ten times the pattern
    return ip if _IPV4.fullmatch(ip) else _parsed_ip(ip)


@lru_cache(maxsize=4096)
def _parsed_ip(ip: str) -> str:
    try:
        address = ip_address(ip)
    except ValueError:
        raise InvalidRegistration("ip", f"{ip[:60]!r} is not an IPv4 or IPv6 address") from None
    if "%" in ip:
        raise InvalidRegistration("ip", "an IPv6 zone means nothing on another machine; leave out '%…'")
    return str(address)


class RegistrationPayload(msgspec.Struct, frozen=True, gc=False):
    """The canonical wire value of a registration's metadata: compact JSON, object keys sorted; empty when absent."""

    json: str | None = None

    @classmethod
    def from_json_text(cls, text: str) -> RegistrationPayload:
        """The payload of any JSON document; `null` is absent. Raises `InvalidRegistration`."""
        try:
            value = strict_json.loads(text)
        except ValueError as error:
            raise InvalidRegistration("metadata", f"not JSON: {error}") from error
        return cls.from_value(value)

    @classmethod
    def from_value(cls, value: object) -> RegistrationPayload:
        """The payload of a JSON value, a Struct, a dataclass, a pydantic model or anything that msgspec can turn into one."""
        if value is None:
            return EMPTY
        if isinstance(value, type):
            raise InvalidRegistration("metadata", f"a value is wanted, not the class {value.__name__}")
        try:
            built = (
                value
                if isinstance(value, dict | list | str | int | float)
                else msgspec.to_builtins(value, enc_hook=_dumped)
            )
            if isinstance(built, dict | list | tuple):
                built = msgspec.to_builtins(built, str_keys=True, enc_hook=_dumped)
            text = strict_json.canonical(built)
        except InvalidRegistration:
            raise
        except (ValueError, TypeError, NotImplementedError, RecursionError) as error:
            raise InvalidRegistration("metadata", str(error)) from error
        return cls(check_metadata(text))

    def raw_json(self) -> str | None:
        """The canonical JSON text, or None when absent."""
        return self.json

    def deserialize(self, type: type[T]) -> T | None:
        """The metadata as `type` (a Struct, dataclass or pydantic model), None when absent. Raises
        `msgspec.ValidationError`; `TypeError` for a type that no metadata can be read as."""
        return None if self.json is None else decode_json(self.json, type)

    @property
    def value(self) -> object:
        """The decoded JSON value, a new one at each call; None when absent."""
        return None if self.json is None else strict_json.loads(self.json)


EMPTY = RegistrationPayload()


def decode_json(text: str | bytes, type: type[T], what: str = "metadata") -> T:
    """The JSON text as a value of `type`, whose pydantic models may be nested.

    Raises `msgspec.ValidationError`; `TypeError` for a type that no JSON can be read as.
    """
    try:
        return msgspec.json.decode(text, type=type, dec_hook=_validated)
    except (TypeError, NameError, NotImplementedError) as error:
        raise TypeError(
            f"{what} cannot be read as {_name(type)}: {error}; give a Struct, a dataclass or a pydantic model"
        ) from error


def _validated(type: Any, value: object) -> object:
    """A value of a class that msgspec does not know: a pydantic model, which is not imported here."""
    validate = getattr(type, "model_validate", None)
    if validate is None:
        raise NotImplementedError(f"{_name(type)} has no fields that cfgsync knows")
    try:
        return validate(value)
    except ValueError as error:
        raise ValueError(_first_of(error)) from error


def _first_of(error: ValueError) -> str:
    """The first of a model's errors, in one line and without the values that it quotes."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _dumped(value: Any) -> object:
    """The JSON value of a pydantic model. Raises `InvalidRegistration` if the same model would not read it back equal: the
    application would see another value than the node's, for example the asterisks of a `SecretStr`."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError(f"objects of type {type(value).__name__} are not JSON values")
    dumped: object = dump(mode="json", by_alias=True, round_trip=True)
    model = type(value)
    try:
        read = model.model_validate(dumped)
    except ValueError as error:
        raise _lossy(f"{model.__name__} cannot read its own JSON value: {_first_of(error)}") from None
    for field in [*model.model_fields, "model_extra"]:
        if getattr(read, field) != getattr(value, field):
            raise _lossy(f"{model.__name__}.{field} comes back from JSON with another value")
    return dumped


def _lossy(why: str) -> InvalidRegistration:
    error = InvalidRegistration("metadata", why)
    error.add_note(
        "give the model fields whose JSON it reads again: no SecretStr, no exclude=True, one alias for both directions"
    )
    return error


def _name(type: object) -> str:
    return getattr(type, "__name__", None) or str(type)


def check_metadata(text: str) -> str:
    """Return canonical metadata within its limits (16 KiB, 32 deep). Raises `InvalidRegistration`."""
    if len(text) * 4 > MAX_METADATA_BYTES and (size := len(text.encode())) > MAX_METADATA_BYTES:
        raise InvalidRegistration("metadata", f"{size} bytes, at most {MAX_METADATA_BYTES} are taken", 413)
    if (
        text.count("{") + text.count("[") > MAX_METADATA_DEPTH
        and strict_json.depth(text) > MAX_METADATA_DEPTH
    ):
        raise InvalidRegistration("metadata", f"nested deeper than {MAX_METADATA_DEPTH}")
    return text


class NodeRegistration(msgspec.Struct, frozen=True, gc=False):
    """One node's registration: `NodeRegistration("node-1", "127.0.0.1").with_metadata(MyMetadata(port=3000))`.

    `identifier` names the node, `ip` is its address as text (IPv4 or IPv6), `payload` its encoded metadata. Raises
    `InvalidRegistration`.
    """

    identifier: str
    ip: str
    payload: RegistrationPayload = EMPTY

    def __post_init__(self) -> None:
        check_identifier(self.identifier)
        if not isinstance(self.payload, RegistrationPayload):
            raise InvalidRegistration(
                "metadata",
                f"the third argument is a RegistrationPayload, not {type(self.payload).__name__}:"
                f" write NodeRegistration({self.identifier!r}, {str(self.ip)!r}).with_metadata(…)",
            )
        usual = check_ip(str(self.ip))
        if usual != self.ip:
            msgspec.structs.force_setattr(self, "ip", usual)

    def with_metadata(self, metadata: object) -> NodeRegistration:
        """The same node with this metadata (any JSON value, Struct, dataclass, pydantic model; None is absent)."""
        return NodeRegistration(self.identifier, self.ip, RegistrationPayload.from_value(metadata))

    @property
    def metadata(self) -> Any:
        """The metadata as a decoded JSON value, None when absent."""
        return self.payload.value

    def metadata_as(self, type: type[T]) -> T:
        """The metadata as `type` (a Struct, dataclass or pydantic model).

        Raises `MetadataMismatch`, which names node and field, for a node's metadata that does not fit; `TypeError` for a
        type that no metadata can be read as.
        """
        try:
            return decode_json(self.payload.json or "null", type)
        except msgspec.ValidationError as error:
            why = f"absent, {_name(type)} expected" if self.payload.json is None else str(error)
            raise MetadataMismatch(self.identifier, why) from error
