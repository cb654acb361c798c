"""What would be published: six wheels that hold their sources and nothing else, and that work in an empty environment."""

from __future__ import annotations

import configparser
import email.message
import email.parser
import os
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from .distributions import NAMES, ROOT, run

VERSIONS = (ROOT / ".python-version").read_text().split()


def wheel_of(built: Path, name: str) -> zipfile.ZipFile:
    (path,) = built.glob(f"{name}-*-py3-none-any.whl")
    return zipfile.ZipFile(path)


def metadata_of(built: Path, name: str) -> email.message.Message:
    with wheel_of(built, name) as wheel:
        (place,) = [entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA")]
        return email.parser.Parser().parsestr(wheel.read(place).decode())


def project_of(name: str) -> dict[str, object]:
    project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]
    assert isinstance(project, dict)
    return project


def sources_of(name: str) -> set[str]:
    source = ROOT / "packages" / name / "src"
    files = (path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(source).as_posix() for path in files}


def test_there_are_six_and_each_is_a_wheel_and_a_source_archive(built: Path) -> None:
    assert len(NAMES) == 6
    assert sorted(path.name.split("-")[0] for path in built.glob("*.whl")) == NAMES
    assert sorted(path.name.split("-")[0] for path in built.glob("*.tar.gz")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_holds_every_file_of_its_source_and_nothing_else(built: Path, name: str) -> None:
    with wheel_of(built, name) as wheel:
        files = {
            entry for entry in wheel.namelist() if not entry.endswith("/") and ".dist-info/" not in entry
        }
    assert files == sources_of(name)
    assert f"{name}/py.typed" in files
    assert [file for file in files if Path(file).name.startswith(("test_", "conftest"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_source_archive_holds_every_file_of_its_source_and_its_page(built: Path, name: str) -> None:
    (path,) = built.glob(f"{name}-*.tar.gz")
    with tarfile.open(path) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert {f"src/{file}" for file in sources_of(name)} | {"README.md", "pyproject.toml"} <= files


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_is_that_of_the_project(built: Path, name: str) -> None:
    metadata, project = metadata_of(built, name), project_of(name)
    assert metadata["Name"] == project["name"] == name.replace("_", "-")
    assert metadata["Version"] == project["version"]
    assert metadata["Summary"] == project["description"]
    assert len(str(metadata["Summary"])) <= 80
    assert metadata["Requires-Python"] == f">={VERSIONS[0]}"
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})  # type: ignore[assignment]
    needs = [*project.get("dependencies", [])]  # type: ignore[misc]
    for extra, words in extras.items():
        needs += [f"{word} {'and' if ';' in word else ';'} extra == '{extra}'" for word in words]
    assert sorted(metadata.get_all("Requires-Dist", [])) == sorted(needs)
    assert sorted(metadata.get_all("Provides-Extra", [])) == sorted(extras)


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_plugins_are_those_of_the_project(built: Path, name: str) -> None:
    project = project_of(name)
    declared: dict[str, object] = dict(project.get("entry-points", {}))  # type: ignore[call-overload]
    if scripts := project.get("scripts"):
        declared["console_scripts"] = scripts
    found = configparser.ConfigParser(delimiters=("=",))
    with wheel_of(built, name) as wheel:
        for entry in wheel.namelist():
            if entry.endswith(".dist-info/entry_points.txt"):
                found.read_string(wheel.read(entry).decode())
    assert {group: dict(found[group]) for group in found.sections()} == declared


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_a_distribution_points_at_nothing_that_is_not_there(built: Path, name: str) -> None:
    """On a package index the page stands alone: a path of the repository leads nowhere."""
    metadata = metadata_of(built, name)
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert page.startswith(f"# {metadata['Name']}\n")
    assert "](." not in page


def test_the_wheels_work_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    """Nothing of this repository is on the way: another directory, and a Python that knows only the environment."""
    environment = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("CFGSYNC_", "CFG_", "PYTHON", "VIRTUAL_ENV"))
    } | {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}

    def said(name: str, *words: str) -> str:
        return run([str(installed.parent / name), *words], cwd=tmp_path, env=environment)

    assert said("cfgsync", "--version") == f"cfgsync {project_of('cfgsync')['version']}\n"
    assert "3 of 3 nodes booted" in said("cfgsync", "demo", "--nodes", "3")
    for command in ("cfgsync-server", "cfgsync-client"):
        assert said(command, "--help")
    places = (
        "import importlib, sys\n"
        f"for name in {[name for name in NAMES if name != 'cfgsync']!r}:\n"
        "    door = importlib.import_module(name)\n"
        "    for public in getattr(door, '__all__', ()): getattr(door, public)\n"
        "    print(door.__file__)\n"
    )
    found = said("python", "-c", places).split()
    assert [path for path in found if not path.startswith(str(installed.parent.parent))] == []
    assert len(found) == 5
