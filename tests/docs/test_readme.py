"""Every block of the README is run, and what it points at is there."""

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_adapter import NodeRegistration
from cfgsync_runtime import OutputDirectory, fetch_and_write_artifacts
from cfgsync_runtime.node.ending import EXIT

from .blocks import Block, blocks, free_ports, run_page

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


def is_make(block: Block) -> bool:
    """`make demo` and `make test`: the second would run this test again."""
    return block.language == "sh" and block.text.startswith("make ")


def is_program(block: Block) -> bool:
    return block.language == "python" and not block.title


def test_the_files_and_commands_run_as_written_and_print_what_the_page_says(tmp_path):
    page = [block for block in blocks(README) if not is_make(block) and not is_program(block)]
    assert len(list(run_page(README, tmp_path, page, forks=False))) == 3


async def test_the_programs_run_as_written(tmp_path, monkeypatch):
    """In one namespace, as one reader would: the server in the background, and a second node beside the page's one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    port = str(free_ports()[0])
    app = next(block for block in blocks(README) if block.title == "app.py")
    (tmp_path / "app.py").write_text(app.text, encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "readme"}
    serving: list[asyncio.Task[None]] = []
    second = NodeRegistration("node-2", "127.0.0.1")
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as nodes:
            for block in filter(is_program, blocks(README)):
                # the page says 4400, which may be taken here
                text = "\n" * (block.line - 1) + block.text.replace("4400", port)
                code = compile(text, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                begun = eval(code, namespace)
                if "serve_snapshot_cfgsync(" in block.text:
                    serving.append(asyncio.create_task(begun))
                    url, outputs = f"http://127.0.0.1:{port}", OutputDirectory(str(tmp_path / "node-2"))
                    nodes.create_task(fetch_and_write_artifacts(second, url, outputs))
                elif inspect.isawaitable(begun):
                    await begun
    finally:
        sys.modules.pop("app", None)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    assert len(serving) == 1
    assert (tmp_path / "node-data/node-1/config.yaml").read_text() == "id: node-1\n"
    assert (tmp_path / "node-2/current/config.yaml").read_text() == "id: node-2\n"


def test_no_block_is_left_out():
    """Each is a file, a command, what it prints, or a program; `make` is the only exception."""
    exempt = [block for block in blocks(README) if is_make(block)]
    assert len(exempt) == 1
    others = [block for block in blocks(README) if not is_make(block) and not is_program(block)]
    assert all(block.title or block.language in ("sh", "text") for block in others)
    assert README.read_text(encoding="utf-8").count("```") == 2 * len(blocks(README))


def test_the_make_targets_of_the_page_exist():
    (block,) = filter(is_make, blocks(README))
    targets = re.findall(r"^make (\w+)", block.text, re.MULTILINE)
    assert targets == ["demo", "test"]
    # what make has been told by whoever runs these tests is not for this question
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for target in targets:
        subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
        )


def test_the_exit_codes_are_those_of_fetch():
    codes = [
        int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert codes == sorted(set(EXIT.values()))


@pytest.mark.parametrize(
    "page", [README, *sorted(ROOT.glob("examples/*/README.md"))], ids=lambda p: p.parent.name
)
def test_what_a_page_points_at_is_there(page):
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_example_is_on_the_page():
    page = README.read_text(encoding="utf-8")
    examples = sorted(path.parent.name for path in ROOT.glob("examples/*/README.md"))
    assert [name for name in examples if f"(examples/{name}/)" not in page] == []
