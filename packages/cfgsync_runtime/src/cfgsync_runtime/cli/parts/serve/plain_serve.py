"""A plain command line of `cfgsync serve`: the flags that typer would read, without typer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ....errors import InputError
from ....settings.serve_settings import REPEATED, ServeSettings, flag_of
from ....settings.settings_reader import TARGETS
from ....settings.variables import refuse_unusable
from ..plain_line import texts_of

_FIELDS: Final = {flag_of(name): name for name in TARGETS[1:]} | {
    flag_of(name): name for name, field in ServeSettings.model_fields.items() if field.description is not None
}
_SWITCHES: Final = {
    option: name not in TARGETS and ServeSettings.model_fields[name].annotation is bool
    for option, name in _FIELDS.items()
}


def plain_flags(words: Sequence[str]) -> dict[str, object] | None:
    """The flags by field, of a line that begins behind the name of the command; None: it is not plain."""
    target = [] if not words or words[0].startswith("-") else [words[0]]
    flags: dict[str, object] = {}
    try:
        for option, texts in texts_of(_SWITCHES, words[len(target) :]).items():
            name = _FIELDS[option]
            for text in texts:
                refuse_unusable(option, text)
            if _SWITCHES[option]:
                flags[name] = True
            else:
                flags[name] = texts if name in REPEATED else texts[-1]
        for text in target:
            refuse_unusable("", text)
            flags["materializer"] = text
        for name, kind in (("port", int), ("shrink_guard", float)):
            if name in flags:
                flags[name] = kind(str(flags[name]))
    except (KeyError, ValueError, InputError):
        return None
    return flags
