"""The six distributions, built as they would be to be published."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
PATIENCE = 300.0


def build_all(target: Path) -> None:
    """`python -m build` of each package: a source archive, and from that a wheel, both into `target`."""
    target.mkdir()
    tools = Path(sys.executable).parent
    # the backend looks for its other half on PATH
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def build(name: str) -> None:
        command = [sys.executable, "-I", "-m", "build", "--no-isolation", "--outdir", str(target)]
        run([*command, str(ROOT / "packages" / name)], env=environment)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, NAMES))


def install_below(target: Path, wheels: Path, name: str) -> None:
    """An environment with `name` out of `wheels`, and what that needs, from the registry."""
    run([sys.executable, "-I", "-m", "venv", "--without-pip", str(target)])
    pip = [
        sys.executable,
        "-I",
        "-m",
        "pip",
        "--python",
        str(target / "bin" / "python"),
        "install",
        "--no-compile",
    ]
    run([*pip, "--constraint", str(ROOT / "constraints.txt"), "--find-links", str(wheels), name])


def run(command: list[str], env: Mapping[str, str] = os.environ, **options: object) -> str:
    """What a command printed; it must end with 0. Python keeps what it compiles, or each command would compile it all."""
    ended = subprocess.run(
        command,
        env={name: text for name, text in env.items() if name != "PYTHONDONTWRITEBYTECODE"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}"
    return str(ended.stdout)
