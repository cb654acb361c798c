"""The Python API page: each public name with its signature and docstring, read from the source that defines it."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

DOORS: Final = (
    *("cfgsync_artifacts", "cfgsync_core", "cfgsync_adapter", "cfgsync_documents", "cfgsync_runtime"),
    "cfgsync_runtime.testing",
)


class Name(NamedTuple):
    """One public name of a door, and the module that the door loads it from."""

    name: str
    module: str


def names(door: str) -> list[Name]:
    """The public names of a door, sorted, as `door()` reads them from its source (ADR 0019)."""
    return sorted(
        Name(alias.name, importlib.util.resolve_name("." * node.level + (node.module or ""), door))
        for block in _tree(door).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )


def python_api() -> str:
    """One section for each door, one heading for each name in it."""
    return "\n\n".join(part for door in DOORS for part in _section(door) if part) + "\n"


def _section(door: str) -> Iterator[str]:
    yield f"## `{door}`"
    yield (ast.get_docstring(_tree(door)) or "").partition("\n")[0]
    public = names(door)
    if not public:
        yield "It has no public name yet."
    for name, module in public:
        yield f"### `{name}`"
        if module in DOORS:
            yield f"The same object as `{module}.{name}`."
        else:
            yield from _entry(name, module)


def _entry(name: str, module: str) -> Iterator[str]:
    body = _tree(module).body
    for at, node in enumerate(body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                yield from _function(node)
            case ast.ClassDef() if node.name == name:
                yield from _class(node)
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)) if (
                target == name
            ):
                yield _code(ast.unparse(node))
                yield _attribute_docstring(body, at)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    yield _code(_signature(node))
    yield ast.get_docstring(node) or ""


def _class(node: ast.ClassDef) -> Iterator[str]:
    """Its head with what it is made from, its docstring, its public fields and its public methods."""
    arguments = ", ".join([*map(ast.unparse, node.bases), *map(ast.unparse, node.keywords)])
    head = f"class {node.name}({arguments})" if arguments else f"class {node.name}"
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    made_from = [one for one in methods if one.name == "__init__"]
    yield _code("\n\n".join([head, *map(_signature, made_from)]))
    yield ast.get_docstring(node) or ""
    yield "\n".join(
        _field(field, _attribute_docstring(node.body, at))
        for at, field in enumerate(node.body)
        if isinstance(field, ast.AnnAssign) and not ast.unparse(field.target).startswith("_")
    )
    for method in methods:
        if not method.name.startswith("_"):
            yield from _function(method)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The definition without its body; a long one has a line for each parameter."""
    decorators = "".join(f"@{ast.unparse(one)}\n" for one in node.decorator_list)
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{word} {node.name}({ast.unparse(node.args)}){result}"
    if len(line) > 100:
        line = f"{word} {node.name}(\n    {_lines(node.args)},\n){result}"
    return decorators + line


def _lines(arguments: ast.arguments) -> str:
    """Each parameter with its default on its own line."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    parts = [_parameter(*one) for one in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        parts.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [_parameter(*one) for one in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        parts.append(f"**{ast.unparse(arguments.kwarg)}")
    return ",\n    ".join(parts)


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _attribute_docstring(body: list[ast.stmt], at: int) -> str:
    """The string that follows an assignment, if one does."""
    match body[at + 1 : at + 2]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return inspect.cleandoc(text)
    return ""


def _field(field: ast.AnnAssign, docstring: str) -> str:
    line = f"- `{ast.unparse(field)}`"
    return f"{line}: {' '.join(docstring.split())}" if docstring else line


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


@functools.cache
def _tree(module: str) -> ast.Module:
    file = importlib.import_module(module).__file__
    assert file is not None
    return ast.parse(Path(file).read_text(encoding="utf-8"))
