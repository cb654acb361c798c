"""What a module is called, that it stands alone, and that ARCHITECTURE.md lists it."""

import ast
import re
import textwrap
from collections import defaultdict

NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "base"}


def test_no_module_has_a_name_that_says_nothing(modules):
    breaches = [
        module.name
        for module in modules
        if module.name.rpartition(".")[2].strip("_") in NAMES_THAT_SAY_NOTHING
    ]
    assert breaches == []


def test_every_module_says_its_promise_first(modules):
    silent = [module.name for module in modules if ast.get_docstring(module.tree()) is None]
    assert silent == []


# Each module is imported in a child of its own, forked before any of ours is loaded; the libraries are loaded once.
EACH_ALONE = """
    import importlib, os, sys, traceback

    for library in ("asyncio", "http.client", "msgspec", "aiohttp", "typer", "pydantic", "yaml", "sqlite3", "pytest"):
        importlib.import_module(library)
    assert not any(name.startswith("cfgsync") for name in sys.modules)
    sys.stdout.flush()
    for name in sys.argv[1:]:
        child = os.fork()
        if not child:
            failed = 0
            try:
                importlib.import_module(name)
            except BaseException as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                print(f"{name}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})", flush=True)
                failed = 1
            os._exit(failed)
        os.waitpid(child, 0)
"""


def test_every_module_imports_alone(modules, run_python):
    names = [module.name for module in modules if not module.name.endswith("__main__")]
    assert run_python("-c", textwrap.dedent(EACH_ALONE), *names) == ""


def test_the_module_list_of_the_architecture_page_mirrors_the_code(root, modules):
    page = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert listed_modules(page) == existing_modules(modules, listed_modules(page))


def listed_modules(page: str) -> dict[str, set[str]]:
    """Rows such as ``| `cfgsync_core` | `errors` `protocol` (wire words) · `backends/` sqlite, nats |``, by package.

    What stands in parentheses explains and is left out. A name with a slash is a subpackage; the plain words up to
    the next name are its modules.
    """
    listed = defaultdict(set)
    for row in re.finditer(r"^\|\s*`(cfgsync_\w+)`\s*\|(.*)\|\s*$", page, re.MULTILINE):
        package, cell = row.groups()
        listed[package]  # a package that lists nothing is listed, too
        for name, words in re.findall(r"`([^`]+)`([^`]*)", without_parentheses(cell)):
            if name.endswith("/"):
                listed[package].add(name)
                listed[package] |= {name + word for word in re.findall(r"\w+", words)}
            else:
                listed[package].add(name.removesuffix(".py"))
    return dict(listed)


def without_parentheses(text: str) -> str:
    kept, depth = [], 0
    for character in text:
        depth += character == "("
        if not depth:
            kept.append(character)
        depth -= character == ")"
    return "".join(kept)


def existing_modules(modules, listed) -> dict[str, set[str]]:
    """The files in the page's words. A subpackage that is listed without its modules counts as one entry."""
    existing = defaultdict(set)
    for module in modules:
        existing[module.package]
        path = module.inner.replace(".", "/")
        if not path or module.name.endswith("__main__"):
            continue
        if module.path.name == "__init__.py":
            existing[module.package].add(f"{path}/")
            continue
        folder = path.rpartition("/")[0]
        in_detail = any(
            entry.startswith(f"{folder}/") and entry != f"{folder}/" for entry in listed[module.package]
        )
        if not folder or in_detail:
            existing[module.package].add(path)
    return dict(existing)
