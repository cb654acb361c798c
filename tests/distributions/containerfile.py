"""The container file as data, and its build steps run below a directory, by this machine's shell and Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from .distributions import ROOT, run

FILE = ROOT / "Containerfile"


class Step(NamedTuple):
    word: str
    rest: str


def stages() -> list[list[Step]]:
    """The steps of each stage; what stands before the first FROM belongs to the first."""
    text = re.sub(r"(?m)^\s*#.*\n", "", FILE.read_text(encoding="utf-8"))
    found: list[list[Step]] = [[]]
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        step = Step(*line.split(None, 1))
        if step.word == "FROM" and any(one.word == "FROM" for one in found[-1]):
            found.append([])
        found[-1].append(step)
    return found


def said(stage: list[Step], word: str) -> list[str]:
    return [step.rest for step in stage if step.word == word]


def run_below(root: Path) -> None:
    """Each RUN and COPY of all stages, in order, with `root` in place of `/`; what a later stage copies is there.

    The Python that runs this stands for the base image's: nothing is written into it.
    """
    base = root / "base"
    base.mkdir(parents=True)
    (base / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (base / "python").chmod(0o755)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("VIRTUAL_ENV")}
    environment["PATH"] = f"{base}:{environment['PATH']}:{root}/opt/tools/bin"
    environment["PIP_NO_COMPILE"] = "1"  # Python compiles what the tests load, and no more
    moved = re.compile(r"(?<![\w.}])/(opt|src|var|work)\b")
    here = root

    def inside(words: str) -> str:
        return moved.sub(lambda match: f"{root}{match[0]}", words)

    for word, rest in (step for stage in stages() for step in stage):
        if word == "WORKDIR":
            here = Path(inside(rest))
            here.mkdir(parents=True, exist_ok=True)
        elif word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, here / target)
        elif word == "RUN":
            line = inside(rest).replace("-o 10001 -g 10001", f"-o {os.getuid()} -g {os.getgid()}")
            run(["/bin/sh", "-euc", line], cwd=here, env=environment)
    shutil.rmtree(root / "src")  # the first stage stays behind
    shutil.rmtree(root / "opt/tools")


def _copy(source: Path, target: Path) -> None:
    """As a builder copies: a file into a directory, or what a directory holds; without what it was told to leave."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
