"""The container file, as far as a machine without a daemon can see: its words, and what its build steps leave."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .containerfile import FILE, said, stages
from .distributions import ROOT, run

KNOWN = {
    "ARG",
    "FROM",
    "WORKDIR",
    "COPY",
    "RUN",
    "LABEL",
    "ENV",
    "VOLUME",
    "USER",
    "EXPOSE",
    "ENTRYPOINT",
    "CMD",
}


def test_it_has_two_stages_of_the_same_slim_base_image() -> None:
    build, final = stages()
    assert {step.word for stage in (build, final) for step in stage} <= KNOWN
    assert said(build, "FROM") == ["python:${PYTHON}-slim AS build"]
    assert said(final, "FROM") == ["python:${PYTHON}-slim"]
    (version,) = re.findall(r"PYTHON=(\S+)", *said(build, "ARG"))
    assert version in (ROOT / ".python-version").read_text().split()


def test_nothing_is_fetched_but_by_pip() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert re.findall(r"\b(curl|wget|apt-get|apt|git|ADD|https?:)\b", text) == []
    assert all("pip" in step or "http" not in step for step in said(stages()[0], "RUN"))


def test_it_does_not_run_as_root_and_carries_no_tools_of_the_build() -> None:
    _, final = stages()
    (user,) = said(final, "USER")
    assert re.fullmatch(
        r"[1-9]\d{3,}:[1-9]\d{3,}", user
    )  # a number: Kubernetes' runAsNonRoot cannot read names
    after = [step.word for step in final[[step.word for step in final].index("USER") :]]
    assert "RUN" not in after
    assert said(final, "COPY") == ["--from=build /opt/cfgsync /opt/cfgsync"]
    assert said(final, "ENTRYPOINT") == ['["cfgsync"]']


def test_what_it_copies_is_sent_to_the_builder_and_nothing_else() -> None:
    sources = [word for rest in said(stages()[0], "COPY") for word in rest.split()[:-1]]
    assert [name for name in sources if not (ROOT / name).exists()] == []
    allowed = re.findall(r"(?m)^!(.+)$", (ROOT / ".containerignore").read_text())
    assert sorted(allowed) == sorted(sources)
    assert (ROOT / ".containerignore").read_text() == (ROOT / ".dockerignore").read_text()


def test_the_final_image_can_run_what_the_first_stage_made(installed: Path) -> None:
    """`installed` is what the steps left, without the sources and the tools: its scripts name a Python that is there."""
    prefix = installed.parent.parent
    assert not (prefix.parent.parent / "src").exists()
    script = (prefix / "bin" / "cfgsync").read_text().splitlines()
    assert str(prefix) in "".join(script[:2])
    assert sorted(path.name for path in prefix.parent.iterdir()) == ["cfgsync"]


def test_docker_itself_finds_nothing_to_warn_of() -> None:
    """`docker build --check` needs a daemon: where there is none, say so and be content with the tests above."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: the container file was not built, no docker daemon answers")
    run([docker, "build", "--check", "-f", str(FILE), str(ROOT)])
