"""A machine that only fetches has `cfgsync-runtime` without its extra; what is missing is said, and how to get it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile
from tests.scripted_server import Says, ScriptedServer, files

from .distributions import ROOT, run

PAGE = ROOT / "docs" / "install.md"


def cfgsync(of_a_node: Path, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the environment, with nothing of this repository on the way."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    return subprocess.run(
        [str(of_a_node.parent / words[0]), *words[1:]],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_it_has_no_web_server_and_no_validator_and_it_fetches(of_a_node: Path, tmp_path: Path) -> None:
    listed = run([sys.executable, "-m", "pip", "--python", str(of_a_node), "list", "--format", "freeze"])
    names = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert names >= {"cfgsync-runtime", "msgspec", "typer"}
    assert not names & {"aiohttp", "pydantic", "pyyaml", "aiofiles", "prometheus-client", "cfgsync"}
    answers = [Says(202, headers={"Cfgsync-Version": "0000000f-4240-7000-8000-000000000000.1"})]
    with ScriptedServer([*answers, files([ArtifactFile("/a", "1\n")])]) as server:
        done = cfgsync(
            of_a_node, tmp_path, "cfgsync", "fetch", "--server", server.url, "--id", "n", "--out", "o", "--", "cat", "o/current/a"
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


NOT_INSTALLED = [
    ("cfgsync", "serve", "app:Fleet"),
    ("cfgsync", "bundle", "check", "x.yaml"),
    ("cfgsync", "demo"),
    ("cfgsync", "tls", "init"),
    ("cfgsync", "tls", "show", "x.pem"),
    ("cfgsync", "tls", "show", "https://127.0.0.1:1"),
    ("cfgsync-server", "x.yaml"),
]


def test_the_pages_name_the_commands_that_a_node_lacks() -> None:
    lacking = list(dict.fromkeys(words[1] for words in NOT_INSTALLED if words[0] == "cfgsync"))
    for page in (PAGE, ROOT / "packages" / "cfgsync_runtime" / "README.md"):
        named = page.read_text().partition("every command but ")[2].partition("\n")[0]
        assert re.findall(r"`(\w+)`", named) == lacking, page


@pytest.mark.parametrize("words", NOT_INSTALLED, ids=" ".join)
def test_a_command_that_is_not_installed_names_the_extra_that_has_it(
    of_a_node: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = cfgsync(of_a_node, tmp_path, *words)
    assert done.returncode == 2
    happened, do = done.stderr.splitlines()
    assert "is not installed: it needs " in happened
    assert do == (
        "install cfgsync too, from the checkout (pip install CHECKOUT/packages/*) or the wheels (docs/install.md)"
    )
    assert do in PAGE.read_text()


def test_a_node_that_is_to_verify_signatures_names_the_extra_that_has_the_libraries(
    of_a_node: Path, tmp_path: Path
) -> None:
    words = ("fetch", "--id", "n", "--out", "o", "--verify-key", "signing.key.pub")
    done = cfgsync(of_a_node, tmp_path, "cfgsync", *words)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "signatures need the libraries securesystemslib and cryptography",
            "run: pip install 'cfgsync-runtime[signatures]'",
        ],
    )
    assert "`cfgsync-runtime[signatures]`" in PAGE.read_text()


def test_pip_on_the_whole_repository_says_what_to_install_instead(of_a_node: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(of_a_node), "install", "--no-deps", str(ROOT)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    (line,) = (
        line for line in refused.stdout.splitlines() + refused.stderr.splitlines() if "pip install ./" in line
    )
    folders = line.partition("pip install ./cfgsync/")[2].split()[0]
    assert sorted(ROOT.glob(folders)) == sorted(
        path.parent for path in ROOT.glob("packages/*/pyproject.toml")
    )
    assert f"./cfgsync/{folders}" in PAGE.read_text()


def test_each_list_of_folders_on_the_page_has_what_its_folders_need() -> None:
    lists = re.findall(r"packages/cfgsync_\{([a-z,]+)\}", PAGE.read_text())
    assert len(lists) == 2
    for folders in lists:
        named = {f"cfgsync-{folder}" for folder in folders.split(",")}
        for folder in folders.split(","):
            project = tomllib.loads((ROOT / "packages" / f"cfgsync_{folder}" / "pyproject.toml").read_text())
            needed = {words.partition("==")[0] for words in project["project"]["dependencies"]}
            assert {name for name in needed if name.startswith("cfgsync-")} <= named, folder
