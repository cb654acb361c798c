"""Doors: a package is entered through its root or through a folder, each of which lists its names once and loads nothing."""

import ast
import importlib
from types import ModuleType

ITS_OWN_DOOR = {"cfgsync_core.text", "cfgsync_core.log_events", "cfgsync_artifacts.door"}
"""A single module at the top of its package, that other packages use as it is."""


def test_across_packages_imports_come_from_a_root_or_from_a_folder(modules, packages):
    """Doors are packages; `from package import module` reaches past one as much as `import package.module` does."""
    doors = {module.name for module in modules if module.path.name == "__init__.py"}
    inner = {module.name for module in modules} - doors - ITS_OWN_DOOR
    breaches = []
    for module in modules:
        for node in ast.walk(module.tree()):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            breaches += [
                f"{module.name}:{node.lineno} imports {target}"
                for target in targets
                if target in inner and target.partition(".")[0] != module.package
            ]
    assert breaches == []


def test_inside_a_package_imports_do_not_go_through_its_own_door(modules):
    breaches = []
    for module in modules:
        depth = len(module.name.split(".")) - (module.path.name != "__init__.py")
        for node in ast.walk(module.tree()):
            if not isinstance(node, ast.ImportFrom):
                continue
            own_modules = {other.name for other in modules if other.package == module.package}
            if node.level:
                base = module.name.split(".")[: depth - node.level + 1]
                source = ".".join([*base, *([node.module] if node.module else [])])
            else:
                source = node.module
            if source == module.package:
                names = [alias.name for alias in node.names if f"{source}.{alias.name}" not in own_modules]
                breaches += [f"{module.name}:{node.lineno} takes {name} from its own door" for name in names]
    assert breaches == []


def test_a_door_holds_a_docstring_its_names_for_tools_and_the_same_names_at_runtime(modules):
    breaches = []
    for module in modules:
        if module.inner:
            continue
        tree = module.tree()
        if ast.get_docstring(tree) is None:
            breaches.append(f"{module.name} has no docstring")
        others = [
            node
            for node in tree.body[1:]
            if not (imports_typing_or_door(node) or is_a_listing(node) or calls_the_door(node))
        ]
        breaches += [f"{module.name}:{node.lineno} {ast.unparse(node).splitlines()[0]}" for node in others]
    assert breaches == []


def imports_typing_or_door(node: ast.stmt) -> bool:
    if not isinstance(node, ast.ImportFrom):
        return False
    names = {alias.name for alias in node.names}
    return node.module == "__future__" or names == {"TYPE_CHECKING"} or names == {"door"}


def is_a_listing(node: ast.stmt) -> bool:
    """`if TYPE_CHECKING: from .x import Y as Y …`."""
    return (
        isinstance(node, ast.If)
        and ast.unparse(node.test) == "TYPE_CHECKING"
        and all(hands_on(inner) for inner in node.body)
        and not node.orelse
    )


def calls_the_door(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
        return False
    targets = ast.unparse(node.targets[0]).strip("()")
    return targets == "__getattr__, __dir__, __all__" and ast.unparse(node.value.func) == "door"


def hands_on(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.ImportFrom) and all(alias.asname == alias.name for alias in node.names)
    )


def public_names(door: ModuleType) -> list[str]:
    """A door that hands nothing on yet is a docstring and no more."""
    return getattr(door, "__all__", [])


def test_tools_and_the_interpreter_see_the_same_names_in_every_door(modules):
    differences = {}
    for module in modules:
        if not any(is_a_listing(node) for node in module.tree().body):
            continue
        for_tools = {
            alias.name
            for fork in module.tree().body
            if is_a_listing(fork)
            for node in fork.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for_tools.discard("door")  # artifacts hands it on to the other doors, and nobody else needs it
        at_runtime = set(public_names(importlib.import_module(module.name))) - {"door"}
        if for_tools != at_runtime:
            differences[module.name] = sorted(for_tools ^ at_runtime)
    assert differences == {}


def test_no_public_name_is_that_of_a_module_beside_it(packages, modules):
    """Importing the module would put it in the name's place, unseen."""
    known = {module.name for module in modules} - {"cfgsync_artifacts.door"}  # put in its place at once
    doors = {package: importlib.import_module(package) for package in packages}
    hidden = {f"{package}.{name}" for package in packages for name in public_names(doors[package])}
    assert hidden & known == set()


def test_a_name_stands_in_one_door_of_its_package(modules, packages):
    twice = []
    for package in packages:
        doors = [m for m in modules if m.package == package and any(map(is_a_listing, m.tree().body))]
        names = [name for door in doors for name in public_names(importlib.import_module(door.name))]
        twice += [f"{package}: {name}" for name in set(names) if names.count(name) > 1]
    assert twice == []


def test_every_public_name_resolves_and_dir_shows_it(packages):
    broken = []
    for package in packages:
        door = importlib.import_module(package)
        for name in public_names(door):
            try:
                getattr(door, name)
            except (AttributeError, ImportError) as error:
                broken.append(f"{package}.{name}: {error}")
        assert set(public_names(door)) <= set(dir(door))
    assert broken == []


def test_every_public_class_and_function_has_a_docstring(packages):
    silent = []
    for package in packages:
        door = importlib.import_module(package)
        for name in public_names(door):
            value = getattr(door, name)
            ours = getattr(value, "__module__", "").startswith("cfgsync_")
            if ours and callable(value) and not own_docstring(value):
                silent.append(f"{package}.{name}")
    assert silent == []


def own_docstring(value: object) -> str | None:
    return value.__dict__.get("__doc__") if isinstance(value, type) else value.__doc__


def test_the_public_names_are_the_committed_ones(root, run_python):
    """A changed public name is a decision: `make public-names`, and a line in CHANGELOG.md."""
    committed = (root / "tests/architecture/public_names.txt").read_text().splitlines()
    now = run_python(root / "scripts/public_names.py").splitlines()
    assert now == committed
