"""Text becomes markup in one function, which escapes everything that is not markup already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as escape_html
from typing import Final, TypeAlias
from urllib.parse import urlencode

_VOID: Final = frozenset(("br", "meta", "link", "rect", "circle", "path"))

_BIDIRECTIONAL: Final = {
    code: f"\\u{code:04x}"
    for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


class Markup(str):
    """Text that is HTML. Outside this module it is made of constants in our own source only."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"


def el(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """`<tag attributes>children</tag>`; None is left out, and so is an attribute that is False. `class_` is `class`,
    `data_name` is `data-name`."""
    written = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>" if tag in ("br", "meta", "link") else f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Child) -> Markup:
    """One piece of markup of many: `Markup` as it is, everything else escaped."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int):
        return Markup(escape(str(children)))
    return Markup("".join(map(join, children)))


def query(**values: str | int | None) -> str:
    """A link to another view of the page: `?node=web-1`. Relative, so that it works behind a prefix too."""
    return "?" + urlencode({name: value for name, value in values.items() if value is not None})


def escape(text: str) -> str:
    """The text as HTML. Bidirectional controls of Unicode, which would reverse the text beside them, are spelled out."""
    return escape_html(text.translate(_BIDIRECTIONAL))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
