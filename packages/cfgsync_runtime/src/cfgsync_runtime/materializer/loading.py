"""`MODULE:CLASS` becomes a materializer, or an error that names the line of the application that failed."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple, NoReturn, Protocol, cast

from cfgsync_adapter import SnapshotMaterializer
from cfgsync_adapter.application import documents_of
from cfgsync_adapter.runs import application_traceback

from ..errors import InputError


class Wanted(NamedTuple):
    """The method that an application's object must have."""

    method: str
    parameters: tuple[str, ...]

    @property
    def line(self) -> str:
        return f"def {self.method}({', '.join(('self', *self.parameters))})"

    @property
    def hint(self) -> str:
        return f"give it `{self.line}`, or name another class"


class DocumentValidator(Protocol):
    """What `cfgsync serve --validator MODULE:CLASS` names."""

    def validate(self, scope: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
        """Why documents of `scope` (`app/env`) may not become what they are in `after`; nothing when they may. Both map
        `namespace/name` to the decoded JSON of the documents that one commit writes, None for an absent one."""


_MANY: Final = {
    1: "one argument",
    2: "two arguments, which its attribute `documents` asks for",
    3: "three arguments",
}
_MATERIALIZER: Final = Wanted("materialize_snapshot", ("registrations",))
_WITH_DOCUMENTS: Final = Wanted("materialize_snapshot", ("registrations", "documents"))
_VALIDATOR: Final = Wanted("validate", ("scope", "before", "after"))
_FORM: Final = "write MODULE:CLASS, such as app:MyMaterializer for the class MyMaterializer in app.py"


def load_materializer(target: str) -> SnapshotMaterializer:
    """The materializer that `target` names; the current directory is importable from then on.

    A class is instantiated without arguments; an instance is taken as it is; anything else that can be called is a
    factory, called without arguments. Raises `InputError`.
    """
    return cast(SnapshotMaterializer, _loaded(target, _MATERIALIZER))


def load_validator(target: str) -> DocumentValidator:
    """The validator of documents that `target` names, in the same way. Raises `InputError`."""
    return cast(DocumentValidator, _loaded(target, _VALIDATOR))


def _loaded(target: str, wanted: Wanted) -> object:
    module_name, name = split_target(target)
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return _made_from(_attribute(_module(module_name), name, target, wanted), target, wanted)


def materializer_from(found: object, target: str) -> SnapshotMaterializer:
    """The materializer that `found` is, or returns when it is called without arguments; messages call it `target`. Raises
    `InputError`."""
    return cast(SnapshotMaterializer, _made_from(found, target, _MATERIALIZER))


def _made_from(found: object, target: str, wanted: Wanted) -> object:
    has_method = callable(getattr(found, wanted.method, None))
    if inspect.isclass(found):
        if not has_method:
            raise InputError(f"{target}: the class has no method {wanted.method}", wanted.hint)
        found = _called(found, target)
    elif not has_method and callable(found):
        found = _called(found, target)
    return _checked(found, target, wanted)


def split_target(target: str) -> tuple[str, str]:
    """Module and name of a target. Raises `InputError` for another form."""
    module, colon, name = target.partition(":")
    if "/" in module or "\\" in module or module.endswith(".py"):
        stem = Path(module.replace("\\", "/")).stem
        raise InputError(
            f"{target!r} names a file",
            f"name the module: {stem}:{name or 'MyMaterializer'}, in the directory of the file",
        )
    if not colon:
        raise InputError(f"{target!r} names no class: there is no colon in it", _FORM)
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise InputError(f"{target!r} is not MODULE:CLASS", _FORM)
    return module, name


def lies_in(directory: Path, module: str) -> bool:
    """True when an import would find `module` in this directory."""
    return PathFinder.find_spec(module.partition(".")[0], [str(directory)]) is not None


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")) and not _frames(error):
            raise InputError(
                f"no module named {name}" if error.name == name else f"no module named {name}: {error}",
                f"Python searched {os.getcwd()} and the packages of {sys.executable}",
            ) from error
        _broken(f"importing {name} failed", error)
    except (Exception, SystemExit) as error:  # an application's module may raise anything, also by sys.exit()
        _broken(f"importing {name} failed", error)


def _attribute(module: ModuleType, name: str, target: str, wanted: Wanted) -> object:
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InputError(
                f"{target}: there is no {part} in {_called_name(found)}", _near(found, part, wanted.method)
            ) from None
        except Exception as error:
            _broken(f"{target}: looking up {part} failed", error)
    return found


def _near(where: object, name: str, method: str) -> str:
    """Suggest similar names of materializers, else all materializers, else similar names."""
    public = [other for other in dir(where) if not other.startswith("_")]
    folded = {other.lower(): other for other in public}
    close = [folded[other] for other in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
    able = [other for other in public if callable(getattr(getattr(where, other, None), method, None))]
    meant = [other for other in close if other in able] or able[:5] or close
    return f"did you mean {' or '.join(meant)}?" if meant else f"define a class with a method {method} there"


def _called(factory: object, target: str) -> object:
    assert callable(factory)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise InputError(
            f"{target} cannot be called without arguments: {error}",
            "give them defaults, or name a function without arguments that returns the materializer",
        ) from error
    except ValueError:
        pass  # a callable written in C may have no signature
    try:
        made: object = factory()
    except (Exception, SystemExit) as error:
        _broken(f"{target} failed when it was called", error)
    if inspect.iscoroutine(made):
        made.close()
        raise InputError(f"{target} is an async function", "name a plain one; its materializer may be async")
    return made


def _checked(made: object, target: str, wanted: Wanted) -> object:
    method = getattr(made, wanted.method, None)
    if not callable(method):
        raise InputError(
            f"{target} gives {_called_name(made)}, which has no method {wanted.method}", wanted.hint
        )
    try:
        if wanted is _MATERIALIZER and documents_of(made):
            wanted = _WITH_DOCUMENTS
    except TypeError as error:
        raise InputError(f"{target}: {error}", "correct the attribute, or give it another name") from error
    try:
        inspect.signature(method).bind(*wanted.parameters)
    except TypeError as error:
        raise InputError(
            f"{target}: {wanted.method} does not take {_MANY[len(wanted.parameters)]}: {error}",
            f"write `{wanted.line}`",
        ) from error
    except ValueError:
        pass
    return made


def _called_name(thing: object) -> str:
    if isinstance(thing, ModuleType | type):
        return thing.__name__
    return "None" if thing is None else f"an object of {type(thing).__name__}"


def _broken(what: str, error: BaseException) -> NoReturn:
    """Raise with the line of the application instead of a traceback."""
    frames = _frames(error)
    if isinstance(error, SyntaxError) and error.filename:
        at = f"{error.filename}:{error.lineno or 1}"
        why = f"{type(error).__name__}: {error.msg}"
    else:
        at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        why = "".join(traceback.format_exception_only(error)[-1:]).strip()
    hint = f"see {at}" if at else "import it in Python to see why"
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"install {error.name!r} for {sys.executable}, or correct {at}"
    sentence = f"{what}: {at}: {why}" if at else f"{what}: {why}"
    raise InputError(sentence, hint, application_traceback(error)) from error


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the application: those that are neither cfgsync's nor the import system's own."""
    below = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [
        frame
        for frame, module in zip(traceback.extract_tb(error.__traceback__), below, strict=True)
        if not module.startswith("cfgsync_")
        and frame.filename != importlib.__file__
        and not frame.filename.startswith("<frozen")
    ]
