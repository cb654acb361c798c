"""An application's failure: its words in full for the log and operators, its type and place for everyone else.

The words may hold a password: those of a command's arguments, of a database driver, of a value that does not fit.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Final

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import MaterializationFailed
from cfgsync_core.text import error_text, shortened
from cfgsync_core.wire import MAX_NOT_READY_CHARACTERS

MAX_TRACEBACK_CHARACTERS: Final = 16_000


def sentence(error: BaseException) -> str:
    """`str(error)`, or its type when that is empty, short enough for an answer. An exception group adds its first error."""
    words = error_text(error)
    if isinstance(error, BaseExceptionGroup):
        words += f": {error_text(_first(error)[0])}"
    return shortened(words, MAX_NOT_READY_CHARACTERS)


def raised_at(error: BaseException) -> str:
    """`KeyError in app.py, line 12`: the error's type and the last line of the application in its traceback.

    The type alone when no line of the application raised it. `""` for an error of cfgsync about the application's result,
    whose words are cfgsync's own. An exception group adds the first of its errors.
    """
    at = _type_and_place(error)
    if isinstance(error, BaseExceptionGroup):
        first, more = _first(error)
        at += f": {_type_and_place(first)}{f' and {more} more' if more else ''}"
    return shortened(at, MAX_NOT_READY_CHARACTERS)


def failed(error: BaseException) -> MaterializationFailed:
    """The failure of a run in which `error` was raised."""
    return MaterializationFailed(sentence(error), raised_at(error), application_traceback(error))


def overdue(error: TimeoutError, within: float) -> MaterializationFailed:
    """The failure of a call that was cancelled at its deadline, with the place in the application if it is known."""
    cancelled = error.__cause__
    where = None if cancelled is None else cancelled.__cause__
    words = f"no answer within {within:g} s"
    if not isinstance(where, MaterializationFailed):
        return MaterializationFailed(words)
    return MaterializationFailed(f"{words}: {where.cause}", trace=where.trace)


def application_traceback(error: BaseException) -> str:
    """The traceback with the application's frames only, `""` when it has no such frame: without those of cfgsync, of Python
    and of libraries, and without the exceptions in its chain that only those have seen. For the author of the application: it may
    hold a secret."""
    chain = [error]
    for one in chain:
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        chain += [other for other in (one.__cause__, one.__context__, *inner) if other and other not in chain]
    frames = [
        (frame.f_code.co_filename, _module(frame.f_globals))
        for one in chain
        for frame, _ in traceback.walk_tb(one.__traceback__)
    ]
    candidates = [(file, module) for file, module in frames if not _is_not_the_applications(module)]
    application = candidates[0][1].partition(".")[0] if candidates else ""  # it may itself be installed
    files = {
        file
        for file, module in candidates
        if module.partition(".")[0] == application or not _INSTALLED & set(file.split(os.sep))
    }
    if not files:
        return ""
    made = traceback.TracebackException.from_exception(error)
    shown = [made]
    for each in shown:
        shown += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other]
    for each in reversed(shown):  # what an exception leads to comes before it
        each.__cause__, each.__context__ = _seen_in(files, each.__cause__), _seen_in(files, each.__context__)
    for each in shown:
        each.stack[:] = [frame for frame in each.stack if frame.filename in files]
    return shortened("".join(made.format()).rstrip(), MAX_TRACEBACK_CHARACTERS)


_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def _seen_in(
    files: set[str], made: traceback.TracebackException | None
) -> traceback.TracebackException | None:
    """This exception, or if it went through none of the files, the next one in its chain. One without a traceback is the
    application's: `raise … from OSError(…)`."""
    if made is None or not made.stack or any(frame.filename in files for frame in made.stack):
        return made
    return made.__cause__ or (None if made.__suppress_context__ else made.__context__)


def _first(group: BaseException) -> tuple[BaseException, int]:
    """The first error in a group, and how many others there are."""
    more = 0
    while isinstance(group, BaseExceptionGroup):
        more += len(group.exceptions) - 1
        group = group.exceptions[0]
    return group, more


def _type_and_place(error: BaseException) -> str:
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{kind} in {os.path.basename(error.filename)}, line {error.lineno or 1}"
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_not_the_applications(_module(frame.f_globals))
    ]
    if not frames:
        return "" if isinstance(error, CfgsyncError) else kind
    application = os.path.dirname(frames[0][0])  # other directories belong to libraries
    file, line = [one for one in frames if os.path.dirname(one[0]) == application][-1]
    return f"{kind} in {os.path.basename(file)}, line {line}"


def _is_not_the_applications(module: str) -> bool:
    return module.startswith("cfgsync_") or module.partition(".")[0] in sys.stdlib_module_names


def _module(names: dict[str, Any]) -> str:
    """A module's name, also when `python -m …` runs it as `__main__`."""
    return str(getattr(names.get("__spec__"), "name", None) or names.get("__name__", ""))
