"""The bodies of surface one."""

from __future__ import annotations

from typing import Any

import msgspec


class WrittenConfig(msgspec.Struct, frozen=True):
    """The document that was written, and its revision."""

    name: str
    revision: int


class ListedConfig(msgspec.Struct, frozen=True, rename="camel"):
    """A document without its data."""

    name: str
    revision: int
    updated_at: str


class ConfigList(msgspec.Struct, frozen=True):
    """The documents of an environment by name."""

    configs: tuple[ListedConfig, ...]


class Config(msgspec.Struct, frozen=True, rename="camel"):
    """A document."""

    name: str
    data: Any
    revision: int
    updated_at: str


class ConfigObject(msgspec.Struct, frozen=True):
    """Any JSON object."""


class ConfigError(msgspec.Struct, frozen=True):
    """Why a call did nothing. A failed precondition names both revisions, 0 for an absent document."""

    error: str
    expected: int | msgspec.UnsetType = msgspec.UNSET
    found: int | msgspec.UnsetType = msgspec.UNSET
