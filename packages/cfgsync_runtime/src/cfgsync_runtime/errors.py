"""What a person gave that cannot be used, said in two lines: what is wrong with it, and what to do."""

from __future__ import annotations

from cfgsync_artifacts import CfgsyncError


class InputError(CfgsyncError, ValueError):
    """A file, a name or a setting that cannot be used; `serve` exits with 2. `str(error)` names the place (file, line
    and column, or flag) and what is wrong there; `hint` says what to do about it."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(" ".join(what.split()))
        self.hint = hint


class MachineRefused(CfgsyncError):
    """What the machine does not give, such as a port; `serve` exits with 1. `hint` says what to do about it."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(" ".join(what.split()))
        self.hint = hint
