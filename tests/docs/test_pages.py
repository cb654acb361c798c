"""Every block of every page in `docs/` is run as its reader would; what cannot be run here says so on the page itself."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path

import pytest

from .blocks import blocks, environment_of, free_ports, is_said, run_page
from .pasted import PastedShell

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if page.relative_to(DOCS).parts[0] not in ("_build", "adr", "screenshots", "observability")
)
RUN = [page for page in PAGES if any(block.language == "sh" for block in blocks(page))]
STARTED = {"tutorial", "install"}
"""Pages whose commands are started, and not forked, as the README's."""
OPTIONAL = {"caddy", "consul", "consul-template", "confd", "docker", "kubectl"}
"""Programs that a test machine may lack; a page with a block that needs them was run by hand."""


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


@pytest.mark.timeout(300)  # each block has a limit of its own
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_says_is_what_happens(page: Path, tmp_path: Path) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    assert list(run_page(page, directory, forks=page.stem not in STARTED))
    lacking = sorted({name for block in blocks(page) for name in block.lacks})
    if not lacking:
        return
    line = f"NOT TESTED: parts of {name_of(page)}, without {', '.join(lacking)}"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1" and set(lacking) - OPTIONAL:
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_no_block_that_nobody_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = blocks(page)
    assert text.count("```") == 2 * len(found), "a block that the tests do not see"
    for block in found:
        if not block.title and block.language != "console":
            assert block.language in ("sh", "text"), f"{page.name}:{block.line}"
        if block.language == "console":
            around = text.splitlines()
            ends = block.line + block.text.count("\n")
            near = " ".join([*around[max(block.line - 6, 0) : block.line - 1], *around[ends : ends + 5]])
            assert re.search(r"not run\b", near), f"{page.name}:{block.line}: say that it is not run, and why"


@pytest.mark.parametrize("page", [page for page in RUN if page.stem != "etcd-discovery"], ids=name_of)
def test_a_block_can_be_pasted_again_since_it_waits_for_the_end_of_what_it_started(page: Path) -> None:
    """In a reader's shell `%1` may be another job, and a server that is still ending has the port of the next one.

    etcd-discovery shows how etcd's clusters are begun, once, and says nothing of their end.
    """
    for block in blocks(page):
        if block.language == "sh" and not block.title:
            assert not re.search(r"%\d", block.text), f"{page.name}:{block.line}"
            servers = re.findall(r"(?m)^(?:cfgsync serve|cfgsync-server) .*&(.*)$", block.text)
            assert [name for name in servers if not re.fullmatch(r" \w+=\$!", name)] == [], block.text
            named = re.findall(r"(\w+)=\$!", block.text)
            assert [name for name in named if not re.search(rf"wait .*\${name}\b", block.text)] == [], (
                block.text
            )


@pytest.mark.parametrize(
    "page",
    [*RUN, ROOT / "README.md", *ROOT.glob("examples/*/README.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_what_follows_a_server_in_a_block_waits_until_it_listens(page: Path) -> None:
    """A server takes up to 3 s on a slow machine. Commands that ask it wait 5 s; `curl` does not by itself."""
    for block in blocks(page):
        after = re.split(r"(?m)^cfgsync(?: serve|-server) .*&(?: \w+=\$!)?$", block.text)[1:]
        for lines in after if block.language == "sh" and not block.title else []:
            first = next((line for line in lines.splitlines() if re.match(r"cfgsync|curl|until", line)), "")
            assert not first.startswith("curl") or "--retry-connrefused" in first, first
            wait = re.search(r"fetch .*--wait (\d+)", first)
            assert wait is None or int(wait[1]) >= 6, first


def test_blocks_that_are_pasted_twice_into_an_interactive_shell_print_the_same(tmp_path: Path) -> None:
    """All pages were pasted in this way once; this is the one whose names and secrets are kept in between."""
    page = DOCS / "howto" / "compose.md"
    script, said = (block for block in blocks(page) if block.language in ("sh", "text"))
    (tmp_path / "work").mkdir()
    (port,) = free_ports()
    with PastedShell(tmp_path / "work", environment_of(tmp_path / "home", port)) as shell:
        for printed in (shell.paste(script.text), shell.paste(script.text)):
            assert [line for line in said.text.splitlines() if not is_said(line, printed)] == [], printed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_can_be_reached_from_the_first_one() -> None:
    reached: set[Path] = set()
    ahead = [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        text = page.read_text(encoding="utf-8")
        linked = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", text)
        ahead += [
            place for target in linked if (place := (page.parent / target).resolve()).is_relative_to(DOCS)
        ]
    assert sorted(name_of(page) for page in set(PAGES) - reached) == []


def test_pages_have_a_runner_for_what_they_need() -> None:
    """`needs=` names a program, spelled as it is called."""
    wanted = {name for page in PAGES for block in blocks(page) for name in block.needs}
    assert [
        name
        for name in wanted
        if shutil.which(name) is None
        and name not in OPTIONAL | {"curl", "etcd", "etcdctl", "haproxy", "nginx"}
    ] == []
