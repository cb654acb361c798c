"""What the model must catch: one rule less, in the product's functions or in what a server does around them."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, NamedTuple

from cfgsync_adapter.rollout import commands, grants, settlement

from .model import Rules

_MODULES: dict[str, Any] = {"commands": commands, "grants": grants, "settlement": settlement}


class Sabotage(NamedTuple):
    """`old`, which stands once in the module of that name, becomes `new`."""

    name: str
    module: str
    old: str
    new: str

    def rules(self) -> Rules:
        """The rules with it. The other modules stay as they are."""
        product = _MODULES[self.module]
        source = Path(product.__file__).read_text()
        assert source.count(self.old) == 1, f"{self.name}: the code has moved on: mend this text\n{self.old}"
        broken = types.ModuleType(product.__name__)
        broken.__dict__.update(__package__=product.__package__, __file__=product.__file__)
        exec(compile(source.replace(self.old, self.new), product.__file__, "exec"), broken.__dict__)
        return Rules(**{self.module: broken})


IN_THE_FUNCTIONS = (
    Sabotage("failed nodes free their place", "grants", "for turn in turns.values())\n    on_trial",
             "for turn in turns.values() if not turn.ended)\n    on_trial"),
    Sabotage("late nodes free their place", "settlement",
             'turns[name] = msgspec.structs.replace(turn, ended="late")', "del turns[name]"),
    Sabotage("no slow start", "grants", ">= max(1, record.through.get(group, 0))", ">= 1000"),
    Sabotage("resume frees every turn", "settlement", "if not turn.ended}\n    behind", "if False}\n    behind"),
    Sabotage("a start takes halted content", "grants",
             'return "files" if record.phase == "rolling" else "kept"', 'return "files"'),
    Sabotage("content that failed is new under a new number", "settlement",
             "        failed=record.failed,\n        left_behind=record.left_behind,\n        halted=record.halted,\n", ""),
    Sabotage("a halt forgets a failed node that left", "settlement",
             "    return Words(words.record, {name: turn for name, turn in words.turns.items() if name not in names})",
             "    failed = {name: one for name, one in words.record.failed.items() if name not in names}\n"
             "    turns = {name: turn for name, turn in words.turns.items() if name not in names}\n"
             "    return Words(replaced(words.record, failed=failed), turns)"),
    Sabotage("a fix waits with everybody", "grants",
             "if words.record.halted and failure is None:", "if words.record.halted:"),
    Sabotage("a failed trial that has no end never gets the fix", "grants",
             "not (has_failed if turn is None else turn.ended)", "(turn is None or not turn.ended)"),
    Sabotage("a canary holds the fix up", "grants", "if not has_failed and _is_canary", "if _is_canary"),
    Sabotage("files that are taken back are given once more", "grants",
             "    if record.reverting:\n        return False\n", ""),
    Sabotage("a turn is for whatever comes", "grants",
             "(turn.ended or turn.digest != asking.digest or not _may_have", "(turn.ended or not _may_have"),
    Sabotage("a new generation keeps the count of the one before", "settlement",
             "        before=record.generation if", "        through=record.through,\n        before=record.generation if"),
    Sabotage("the halted are not stopped", "settlement", "record = replaced(record, halted=True)", "pass"),
)  # fmt: skip

AROUND_THEM = {
    "no compare-and-set": Rules(compares_and_sets=False),
    "the answer before the commit": Rules(commits_before_answers=False),
    "the second answer without a commit": Rules(writes_the_turn_again=False),
    "files from a view that lags": Rules(reads_what_is_named=False),
    "no deadline": Rules(has_deadline=False),
    "marked and halted in two commits": Rules(halts_with_the_mark=False),
    "a revert that does not halt first": Rules(freezes_first=False),
}


def sabotaged(name: str) -> Rules:
    """The rules with the sabotage of that name."""
    if name == NO_FENCE:  # only both together let an old failure end a new turn
        return _NO_FENCE.rules()._replace(retry_forgets=False)
    return next((one.rules() for one in IN_THE_FUNCTIONS if one.name == name), None) or AROUND_THEM[name]


NO_FENCE = "no fence on acknowledgements"
_NO_FENCE = Sabotage("", "settlement", "is_news = spoken.revision > turn.after", "is_news = True")
NAMES = (*(one.name for one in IN_THE_FUNCTIONS), *AROUND_THEM, NO_FENCE)
