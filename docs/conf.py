"""How `make docs` builds the pages: each warning is an error, and the reference is read from the program."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generated  # noqa: E402  # a file in this folder

project = "cfgsync"
copyright = "the authors of cfgsync"  # Sphinx requires this name
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "adr/0000-template.md", "screenshots"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nitpicky = True
highlight_language = "none"
html_theme = "furo"
html_title = "cfgsync"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False}

MENU = {
    "index": {
        "Begin": ["tutorial", "install"],
        "How to": [
            *(
                "howto/materializer",
                "howto/waiting",
                "howto/rollout",
                "howto/secrets",
                "howto/tokens",
                "howto/compose",
                "howto/kubernetes",
            ),
            *(
                "howto/systemd",
                "howto/network",
                "howto/rotate",
                "howto/proxies",
                "howto/signatures",
                "howto/testing",
                "howto/postgresql",
                "howto/engine",
                "howto/not-ready",
                "howto/page",
                "howto/documents",
                "observability/README",
            ),
        ],
        "Reference": [
            *(
                "reference/cli",
                "reference/exit-codes",
                "reference/settings",
                "reference/wire",
                "reference/files",
                "reference/python-api",
            ),
        ],
        "Explanation": ["explanation/revisions", "explanation/promises", "adr/index"],
        "Coming from": [
            *("coming-from/rust-cfgsync", "coming-from/etcd-discovery", "coming-from/consul-template"),
            *("coming-from/confd", "coming-from/bash-loop"),
        ],
    },
    "adr/index": {
        "All": sorted(
            f"/adr/{path.stem}" for path in HERE.glob("adr/[0-9]*.md") if "template" not in path.stem
        )
    },
}
"""The menu beside the text. A page in the repository does not need it: it has its own links."""

FENCE = re.compile(r"^```(\w+) title=(\S+)(?: needs=\S+)?$", re.MULTILINE)
OUTSIDE = re.compile(r"\]\(((?:\.\./)+)((?!adr/|observability/)[^)#:]*)(#[^)]*)?\)")
INCLUDED = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
LANGUAGE = {".yaml": "yaml", ".service": "ini"}
GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def prepared(name: str, text: str) -> str:
    """A page in the form that MyST reads: markers replaced by generated text, names of files as captions of their blocks.

    In the repository a page links to other files by relative paths. A built page does not have those files beside it, so
    it shows the path instead of the link.
    """
    text = generated.WRITTEN.sub(lambda match: match[2], text)
    text = GENERATED.sub(lambda match: generated.SECTIONS[match[1]](), text)
    text = INCLUDED.sub(lambda match: included(match[1]), text)
    text = FENCE.sub(lambda match: f"```{{code-block}} {match[1]}\n:caption: {match[2]}\n", text)
    depth = name.count("/") + 1

    def outside(match: re.Match[str]) -> str:
        path = match[2]
        if match[1].count("../") < depth:
            return match[0]
        assert (HERE.parent / path).exists(), f"{name}: {path} is not in the repository"
        return f"] (`{path or './'}` in the repository)"

    # `[words](../examples/x)` becomes `words (`examples/x` in the repository)`
    return re.sub(r"\[([^\]]+)\] \(`", r"\1 (`", OUTSIDE.sub(outside, text))


def included(path: str) -> str:
    """A file of the repository, as a block with its path above it."""
    file = HERE.parent / path
    return f"```{LANGUAGE[file.suffix]} title={path}\n{file.read_text(encoding='utf-8')}```"


def menu(name: str) -> str:
    """The toctrees of a page; they are hidden in its text."""
    hidden = "" if name == "adr/index" else ":hidden:\n"
    return "".join(
        f"\n```{{toctree}}\n{hidden}:maxdepth: 1\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
        for caption, pages in MENU.get(name, {}).items()
    )


def _read(app: Any, name: str, source: list[str]) -> None:
    source[0] = prepared(name, source[0]) + menu(name)


def setup(app: Any) -> None:
    app.connect("source-read", _read)
