"""The pages are built with every warning an error, and what they say of the program is read from the program."""

from __future__ import annotations

import html
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_runtime.cli import app, main
from cfgsync_runtime.node.ending import EXIT
from cfgsync_runtime.settings.serve_settings import ServeSettings, variable_of_field
from tests.once import once

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    return once(tmp_path_factory, "site", build) / "html"


def build(out: Path) -> None:
    command = [sys.executable, "-I", "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    command += ["-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=340, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def words(page: Path) -> str:
    """What a reader sees of a page, with single blanks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))).split())


def test_every_page_is_built(site: Path) -> None:
    pages = [page.relative_to(DOCS) for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    missing = [page for page in pages if not (site / page.with_suffix(".html")).exists()]
    assert missing == [Path("adr/0000-template.md")]


@pytest.mark.parametrize("name", app.COMMANDS)
def test_the_page_of_the_command_line_has_what_help_prints(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert f"```text\n{capsys.readouterr().out}```\n" in (DOCS / "reference" / "cli.md").read_text()


def test_what_the_pages_say_of_the_program_is_what_it_says_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make reference` writes it."""
    for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(DOCS))
    generated = importlib.import_module("generated")
    pages = {page: page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md")}
    parts = [match[1] for text in pages.values() for match in generated.WRITTEN.finditer(text)]
    assert sorted([*parts, "python_api"]) == sorted(generated.SECTIONS)
    assert [page.name for page, text in pages.items() if generated.written(text) != text] == []


def test_exit_codes_and_settings_are_those_of_the_program(site: Path) -> None:
    codes = (site / "reference" / "exit-codes.html").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"<td><p>(\d)</p></td>", codes)] == sorted(set(EXIT.values()))
    seen = words(site / "reference" / "settings.html")
    fields = set(ServeSettings.model_fields) - {"server"}
    assert [name for name in fields if variable_of_field(name).name not in seen] == []


def test_the_python_api_page_has_the_definition_of_each_public_name(site: Path) -> None:
    page = (site / "reference" / "python-api.html").read_text(encoding="utf-8")
    for door in [
        *(f"cfgsync_{name}" for name in ("artifacts", "core", "adapter", "runtime")),
        "cfgsync_runtime.testing",
    ]:
        section = page.split(f">{door}</span></code><a")[1].split("<h2>")[0]
        entries = dict(
            re.findall(r"<h3><code[^>]*><span[^>]*>(\w+)</span>.*?</h3>(.*?)(?=<h3>|\Z)", section, re.DOTALL)
        )
        assert sorted(entries) == importlib.import_module(door).__all__
        empty = [
            name for name, text in entries.items() if "<pre>" not in text and "The same object" not in text
        ]
        assert empty == []


def test_no_marker_is_left_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<!-- (generated|include):|&lt;!-- (generated|include):", text), page
        loaded = re.findall(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="(?:https?:)?//([^"/]+)', text)
        assert loaded == [], page


def test_a_page_that_points_at_nothing_does_not_pass(tmp_path: Path) -> None:
    """The build can fail: the one thing that the tests above rely on."""
    (tmp_path / "index.md").write_text("# Here\n\n[there](there.md)\n")
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser"]\n')
    command = [
        sys.executable,
        "-I",
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-b",
        "html",
        str(tmp_path),
        str(tmp_path / "out"),
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
