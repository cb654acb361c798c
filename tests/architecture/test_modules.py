"""What a module is called, that it stands alone, and that ARCHITECTURE.md lists it."""

import ast
import textwrap

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


LIBRARIES = (
    *(
        "aiofiles.tempfile",
        "aiohttp.web",
        "asyncio",
        "hmac",
        "http.client",
        "msgspec",
        "pydantic._internal._generate_schema",
    ),
    *(
        "pydantic.json_schema",
        "pydantic.main",
        "pytest",
        "queue",
        "secrets",
        "sqlite3",
        "typer",
        "uvloop",
        "yaml",
        "zoneinfo",
    ),
)
# Each module is imported in a child of its own, forked before any of ours is loaded; the libraries are loaded once.
EACH_ALONE = """
    import gc, importlib, os, sys, traceback

    for library in sys.argv[1].split(","):
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # what no child looks at is not copied for it
    assert not any(name.startswith("cfgsync") for name in sys.modules)
    sys.stdout.flush()
    for name in sys.argv[2:]:
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
    assert run_python("-c", textwrap.dedent(EACH_ALONE), ",".join(LIBRARIES), *names) == ""


def test_the_tree_of_the_architecture_page_mirrors_the_code(root, modules):
    page = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert listed_modules(page) == existing_modules(modules)


def listed_modules(page: str) -> set[str]:
    """Lines such as `  wire/   headers · limits`, indented below their package: `cfgsync_core.wire.headers`."""
    listed: set[str] = set()
    folders: list[str] = []
    for line in page.split("<!-- tree -->\n```\n")[1].split("```")[0].splitlines():
        name, _, names = line.strip().partition("/")
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        listed.add(".".join(folders))
        listed |= {".".join([*folders, module]) for module in names.replace("·", " ").split()}
    return listed


def existing_modules(modules) -> set[str]:
    return {module.name for module in modules if not module.name.endswith("__main__")}
