"""The environment of a program: ours, without the variables of cfgsync that hold a secret themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

_SECRET: Final = re.compile(
    r"CFGSYNC_(.*_)?(SECRET|TOKEN|PASSWORD|(?<!VERIFY_)KEY)(_.*)?(?<!_FILE)|CFGSYNC_(.*_)?(STORE|HINTS)"
)
"""A path is no secret, nor is a public key; the URL of a store may hold a password."""

_OF_THE_SERVER: Final = re.compile(r"(CFGSYNC|CFG)_.*|PG[A-Z]+", re.DOTALL)
"""`PG…` are what a client of PostgreSQL reads by itself, as `PGPASSWORD` and `PGPASSFILE`. NATS's reads none."""


def for_programs(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """A copy for a program that cfgsync starts."""
    return {name: value for name, value in environment.items() if not _SECRET.fullmatch(name)}


def for_materializers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """A copy for the application that a server runs, without every variable of cfgsync, and without every one by which its
    store is opened: they say where the server keeps its store, tokens and keys, or are its password."""
    return {name: value for name, value in environment.items() if not _OF_THE_SERVER.fullmatch(name)}
