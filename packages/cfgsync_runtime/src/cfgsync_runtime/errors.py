"""What a person gave that cannot be used, said in two lines: what is wrong with it, and what to do; and one error for many callers."""

from __future__ import annotations

from cfgsync_artifacts import CfgsyncError


class InputError(CfgsyncError, ValueError):
    """A file, a name or a setting that cannot be used; `serve` exits with 2. `str(error)` names the place (file, line
    and column, or flag) and what is wrong there; `hint` says what to do about it. `trace` is the traceback of the
    application that could not be loaded, or `""`."""

    def __init__(self, what: str, hint: str, trace: str = "") -> None:
        super().__init__(" ".join(what.split()))
        self.hint = hint
        self.trace = trace
        if hint:
            self.add_note(hint)  # a program shows it with its traceback


class MachineRefused(CfgsyncError):
    """What the machine does not give, such as a port; `serve` exits with 1. `hint` says what to do about it."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(" ".join(what.split()))
        self.hint = hint
        self.add_note(hint)


def again(error: CfgsyncError) -> CfgsyncError:
    """A copy for another caller: one exception that is raised in many tasks would collect their tracebacks."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.__cause__ = error.__cause__
    return fresh
