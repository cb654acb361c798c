"""Metadata as the application's types: a Struct, a dataclass, a pydantic model, alone or one in the other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

import msgspec
import pydantic
import pytest

from cfgsync_core import InvalidRegistration, MetadataMismatch, NodeRegistration

NODE = NodeRegistration("a", "10.0.0.1")


class Port(pydantic.BaseModel):
    port: int

    @pydantic.field_validator("port")
    @classmethod
    def is_free(cls, port: int) -> int:
        if port == 22:
            raise ValueError("22 is taken")
        return port


class Struct(msgspec.Struct):
    port: int


@dataclass
class Ports:
    ports: list[Port]


class Plain:
    pass


@dataclass
class Unresolved:
    port: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("value", [Port(port=70), Struct(70), Ports([Port(port=70)])])
def test_a_value_of_each_type_travels_and_comes_back(value: Any) -> None:
    assert NODE.with_metadata(value).metadata_as(type(value)) == value
    assert NODE.with_metadata(value).payload.deserialize(type(value)) == value


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", alias_generator=lambda name: name.upper())

    cluster_port: int
    inner: Aliased | None = None
    zone: str = pydantic.Field(default="a", alias="Zone")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.cluster_port


class Extras(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class Timed(pydantic.BaseModel):
    at: datetime
    where: IPv4Address
    keys: frozenset[int] = frozenset()


@pytest.mark.parametrize(
    "value",
    [
        Aliased(CLUSTER_PORT=70, INNER=Aliased(CLUSTER_PORT=71, Zone="b")),  # type: ignore[call-arg]
        Extras(port=70),  # type: ignore[call-arg]
        Timed(at=datetime(2026, 1, 1, tzinfo=UTC), where=IPv4Address("10.0.0.1"), keys=frozenset({1})),
    ],
)
def test_a_model_reads_again_what_it_wrote_under_its_aliases(value: pydantic.BaseModel) -> None:
    assert NODE.with_metadata(value).metadata_as(type(value)) == value
    assert NODE.with_metadata({"b": [value]}).metadata_as(dict[str, list[type(value)]]) == {"b": [value]}  # type: ignore[misc]


class Hidden(pydantic.BaseModel):
    password: pydantic.SecretStr


class Excluded(pydantic.BaseModel):
    port: int = pydantic.Field(default=1, exclude=True)


class Required(pydantic.BaseModel):
    port: int = pydantic.Field(exclude=True)


class TwoNames(pydantic.BaseModel):
    port: int = pydantic.Field(validation_alias="in", serialization_alias="out")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            Hidden(password=pydantic.SecretStr("secret-word")),
            "Hidden.password comes back from JSON with another value",
        ),
        (Excluded(port=70), "Excluded.port comes back from JSON with another value"),
        (Required(port=70), "Required cannot read its own JSON value: port: Field required"),
        (TwoNames.model_validate({"in": 70}), "TwoNames cannot read its own JSON value: in: Field required"),
    ],
)
def test_a_model_that_would_not_read_its_own_value_again_is_refused_when_it_is_written(
    value: pydantic.BaseModel, words: str
) -> None:
    for metadata in (value, [value]):
        with pytest.raises(InvalidRegistration) as refused:
            NODE.with_metadata(metadata)
        assert str(refused.value) == f"metadata: {words}"
        assert refused.value.__notes__[0].startswith("give the model fields whose JSON it reads again")
    assert "secret-word" not in str(refused.value)


def test_a_model_is_json_on_the_wire() -> None:
    assert NODE.with_metadata(Port(port=70)).payload.raw_json() == '{"port":70}'
    assert NODE.with_metadata({"b": [Port(port=70)]}).payload.raw_json() == '{"b":[{"port":70}]}'


@pytest.mark.parametrize(
    ("metadata", "type", "words"),
    [
        ({"port": "hunter2"}, Port, "port: Input should be a valid integer"),
        ({}, Port, "port: Field required"),
        ({"port": 22}, Port, "port: Value error, 22 is taken"),
        ({"ports": [{"port": 1}, {"port": 22}]}, Ports, r"22 is taken - at `\$\.ports\[1\]`"),
        ({"port": "x"}, Struct, r"Expected `int`, got `str` - at `\$\.port`"),
        (None, Port, "absent, Port expected"),
        (None, int, "absent, int expected"),
        (3, list[Port], "Expected `array`, got `int`"),
    ],
)
def test_a_node_whose_metadata_does_not_fit_is_blamed_with_the_field(
    metadata: object, type: Any, words: str
) -> None:
    with pytest.raises(MetadataMismatch, match=rf"^metadata of node a: .*{words}") as caught:
        NODE.with_metadata(metadata).metadata_as(type)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "type", [Plain, list[Plain], Unresolved, "Port", Port | Struct], ids=lambda one: str(one)
)
def test_a_type_that_no_metadata_can_be_read_as_is_blamed_and_not_the_node(type: Any) -> None:
    with pytest.raises(TypeError, match="metadata cannot be read as") as caught:
        NODE.with_metadata([{"port": 70}] if type == list[Plain] else {"port": 70}).metadata_as(type)
    assert "node a" not in str(caught.value)


def test_absent_metadata_fits_a_type_that_may_be_none() -> None:
    optional: Any = Port | None
    assert NODE.metadata_as(optional) is None
    assert NODE.with_metadata({"port": 70}).metadata_as(optional) == Port(port=70)


def test_an_object_that_is_no_json_value_is_refused_as_metadata() -> None:
    for value in (Plain(), {"x": Plain()}, Plain):
        with pytest.raises(InvalidRegistration, match="Plain"):
            NODE.with_metadata(value)


def test_core_does_not_load_pydantic_for_it() -> None:
    code = "import cfgsync_core, sys; cfgsync_core.NodeRegistration('a', '10.0.0.1').with_metadata({'a': 1}).metadata_as(dict); print('pydantic' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
