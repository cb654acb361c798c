"""A materializer is found by its name, and everything in the way is told in two lines with file and line."""

import sys
from pathlib import Path

import pytest

from cfgsync_runtime.errors import InputError
from cfgsync_runtime.materializer.loading import lies_in, load_materializer

APP = """\
class MyMaterializer:
    revision = "7"
    def materialize_snapshot(self, registrations):
        return "made"

class Outer:
    class Inner(MyMaterializer):
        pass

class NoVerb:
    pass

class WrongVerb:
    def materialize_snapshot(self):
        return None

class NeedsPeers(MyMaterializer):
    def __init__(self, peers):
        self.peers = peers

class Fails(MyMaterializer):
    def __init__(self):
        raise ValueError("no\\nluck")

def factory():
    return NeedsPeers(3)

def lost():
    return None

async def later():
    return MyMaterializer()

def leaves():
    raise SystemExit(3)

ready = NeedsPeers(5)
number = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch):
    """Writes modules into the current directory, which is not on `sys.path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(text: str = APP, name: str = "boot_app") -> str:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("boot_"):
            del sys.modules[name]


def refusal(target: str) -> tuple[str, str]:
    with pytest.raises(InputError) as refused:
        load_materializer(target)
    assert "\n" not in str(refused.value) + refused.value.hint
    return str(refused.value), refused.value.hint


# ── what is loaded ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MyMaterializer", "MyMaterializer"),
        ("Outer.Inner", "Inner"),
        ("factory", "NeedsPeers"),
        ("ready", "NeedsPeers"),
    ],
    ids=["class", "nested class", "factory", "instance"],
)
def test_a_class_a_factory_or_an_instance_in_the_current_directory_becomes_a_materializer(module, name, kind):
    made = load_materializer(f"{module()}:{name}")
    assert type(made).__name__ == kind
    assert made.materialize_snapshot(()) == "made"


def test_a_module_in_a_package_that_imports_its_neighbour_is_loaded(module):
    module("", "boot_pkg.__init__")
    module(APP, "boot_pkg.inner")
    module("from .inner import MyMaterializer", "boot_pkg.outer")
    assert load_materializer("boot_pkg.outer:MyMaterializer").materialize_snapshot(()) == "made"


def test_a_module_lies_in_the_directory_that_holds_it_and_is_not_imported_to_know_it(module, tmp_path: Path):
    module("raise Exception", "boot_here")
    assert lies_in(tmp_path, "boot_here")
    assert lies_in(tmp_path, "boot_here.deeper")
    assert not lies_in(tmp_path, "json")


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "what", "hint"),
    [
        ("app", "'app' names no class: there is no colon in it", "write MODULE:CLASS"),
        ("app.py", "'app.py' names a file", "name the module: app:MyMaterializer"),
        ("boot/app.py:Mine", "'boot/app.py:Mine' names a file", "name the module: app:Mine"),
        (":Mine", "':Mine' is not MODULE:CLASS", "write MODULE:CLASS"),
        ("app:", "'app:' is not MODULE:CLASS", "write MODULE:CLASS"),
        ("app:a:b", "'app:a:b' is not MODULE:CLASS", "write MODULE:CLASS"),
        (".app:Mine", "'.app:Mine' is not MODULE:CLASS", "write MODULE:CLASS"),
    ],
)
def test_a_name_of_another_form_is_refused(target: str, what: str, hint: str):
    said, todo = refusal(target)
    assert said == what
    assert todo.startswith(hint)


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(module, tmp_path: Path):
    module()
    assert refusal("boot_none:Mine") == (
        "no module named boot_none",
        f"Python searched {tmp_path} and the packages of {sys.executable}",
    )
    assert refusal("boot_app.sub:Mine")[0].startswith("no module named boot_app.sub")
    assert refusal("boot_none.sub:Mine")[0].startswith("no module named boot_none.sub")


def test_an_import_that_fails_inside_the_module_is_told_with_its_file_and_line(module, tmp_path: Path):
    module("import os\nimport boot_nothing_such\n")
    assert refusal("boot_app:Mine") == (
        f"importing boot_app failed: {tmp_path}/boot_app.py:2: ModuleNotFoundError: No module named 'boot_nothing_such'",
        f"install 'boot_nothing_such' for {sys.executable}, or correct {tmp_path}/boot_app.py:2",
    )


def test_a_package_that_imports_its_own_name_in_vain_is_not_taken_for_a_missing_one(module, tmp_path: Path):
    module("import boot_pkg.deep.er\n", "boot_pkg.__init__")
    assert refusal("boot_pkg.deep:Mine")[0].startswith(
        f"importing boot_pkg.deep failed: {tmp_path}/boot_pkg/__init__.py:1: ModuleNotFoundError"
    )


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("x = 1\nclass Mine(:\n", 2, "SyntaxError: invalid syntax"),
        ("def f():\n    1 / 0\nf()\n", 2, "ZeroDivisionError: division by zero"),
        ("\nimport sys\nsys.exit('bye')\n", 3, "SystemExit: bye"),
    ],
)
def test_a_module_that_raises_is_told_with_its_file_and_line(
    module, tmp_path: Path, text: str, line: int, why: str
):
    module(text)
    what, hint = refusal("boot_app:Mine")
    assert what == f"importing boot_app failed: {tmp_path}/boot_app.py:{line}: {why}"
    assert hint == f"see {tmp_path}/boot_app.py:{line}"


def test_a_name_that_is_not_there_is_answered_with_what_may_have_been_meant(module):
    module()
    assert refusal("boot_app:Mymaterialiser") == (
        "boot_app:Mymaterialiser: there is no Mymaterialiser in boot_app",
        "did you mean MyMaterializer?",
    )
    assert (
        refusal("boot_app:Zzz")[1]
        == "did you mean Fails or MyMaterializer or NeedsPeers or WrongVerb or ready?"
    )
    assert refusal("boot_app:Outer.Iner")[1] == "did you mean Inner?"
    module("x = 1", "boot_empty")
    assert refusal("boot_empty:Mine")[1] == "define a class with a method materialize_snapshot there"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("NoVerb", "boot_app:NoVerb: the class has no method materialize_snapshot"),
        ("number", "boot_app:number gives an object of int, which has no method materialize_snapshot"),
        ("lost", "boot_app:lost gives None, which has no method materialize_snapshot"),
        ("later", "boot_app:later is an async function"),
        (
            "NeedsPeers",
            "boot_app:NeedsPeers cannot be called without arguments: missing a required argument: 'peers'",
        ),
        (
            "WrongVerb",
            "boot_app:WrongVerb: materialize_snapshot does not take one argument: too many positional arguments",
        ),
        ("Fails", "boot_app:Fails failed when it was called: {path}:23: ValueError: no luck"),
        ("leaves", "boot_app:leaves failed when it was called: {path}:35: SystemExit: 3"),
    ],
)
def test_what_is_no_materializer_is_refused(module, tmp_path: Path, name: str, what: str):
    module()
    assert refusal(f"boot_app:{name}")[0] == what.format(path=tmp_path / "boot_app.py")
