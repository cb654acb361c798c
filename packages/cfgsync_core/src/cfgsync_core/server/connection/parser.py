"""The library's parser of requests in C: the one in Python takes requests that proxies read in another way."""

from __future__ import annotations

import os
from typing import Final

import aiohttp
from aiohttp import http_parser

from ...errors import ParserMissing

_SWITCH: Final = "AIOHTTP_NO_EXTENSIONS"


def require_strict_parser() -> None:
    """Raises `ParserMissing`."""
    if http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy:
        return
    what = (
        f"aiohttp {aiohttp.__version__} has no parser in C here, and the one in Python takes requests that a proxy reads in"
        " another way"
    )
    if os.environ.get(_SWITCH):
        raise ParserMissing(what, f"unset the variable {_SWITCH}")
    raise ParserMissing(
        what,
        "install aiohttp with its extensions: its wheel for this platform, or from source with a C compiler",
    )
