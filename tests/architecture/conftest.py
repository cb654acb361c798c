"""The product's source as a list of modules, for the tests that read it."""

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    package: str
    """The root package: `cfgsync_core`."""
    name: str
    """The whole name: `cfgsync_core.errors`; a package has its own name, without `__init__`."""
    path: Path

    @property
    def inner(self) -> str:
        """The name below the root package: `errors`, `backends.sqlite`; empty for the door."""
        return self.name.removeprefix(self.package).removeprefix(".")

    def tree(self) -> ast.Module:
        return _parsed(self.path)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def packages() -> list[str]:
    """The packages with code; the meta distribution `cfgsync` has none."""
    return sorted(path.name for path in ROOT.glob("packages/cfgsync_*"))


@pytest.fixture(scope="session")
def modules(packages: list[str]) -> list[Module]:
    found = []
    for package in packages:
        source = ROOT / "packages" / package / "src"
        for path in sorted((source / package).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(package, name, path))
    assert found, "no source was found: this file has moved"
    return found


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run a program in a fresh interpreter and return what it printed."""

    def run(*arguments: str | Path) -> str:
        command = [sys.executable, *map(str, arguments)]
        completed = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, stdin=subprocess.DEVNULL
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    return run
