"""Metadata as the application's types: a Struct, a dataclass, a pydantic model, alone or one in the other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
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
