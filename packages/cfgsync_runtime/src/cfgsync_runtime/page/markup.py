"""HTML from elements and text; everything that is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as escape_html
from typing import Final, TypeAlias
from urllib.parse import urlencode

_VOID: Final = frozenset(("br", "meta", "link", "input"))
_SHAPES: Final = frozenset(("rect", "circle", "path"))

_BIDIRECTIONAL: Final = {
    code: f"\\u{code:04x}"
    for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


class Markup(str):
    """Text that is HTML. Other modules make it from constants of our own source only."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"


def el(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """`<tag attributes>children</tag>`, without children and attributes that are None, and attributes that are False.
    `class_` is `class`, `data_name` is `data-name`."""
    written = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            written += " " + key.rstrip("_").replace("_", "-")
            written += "" if value is True else f'="{escape(str(value))}"'
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    if tag in _SHAPES:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Child) -> Markup:
    """The children as markup: `Markup` unchanged, everything else escaped."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int):
        return Markup(escape(str(children)))
    return Markup("".join(map(join, children)))


def query(**values: str | int | None) -> str:
    """A link to another view of the page: `?node=web-1`. Relative, so that it works behind a prefix."""
    return "?" + urlencode({name: value for name, value in values.items() if value is not None})


def escape(text: str) -> str:
    """The text as HTML. Unicode's bidirectional controls, which would reverse the text beside them, become `\\uXXXX`."""
    return escape_html(text.translate(_BIDIRECTIONAL))
