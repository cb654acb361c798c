"""From method and target to a route: an exact path is one dictionary look-up; paths with names are matched after it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote

from .route import NOTHING, Reply, Route, refusal

MAX_KNOWN: Final = 1_024
"""Targets whose route is remembered: programs ask for the same ones again and again."""

_Methods: TypeAlias = dict[str, Route]


class RouteTable:
    """The routes of one server. Raises `ValueError` for two routes with one method and one path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, _Methods] = {}
        for route in routes:
            methods = self._exact.setdefault(route.path, {})
            if route.method in methods:
                raise ValueError(f"two routes for {route.method} {route.path}")
            methods[route.method] = route
        for methods in self._exact.values():
            if (get := methods.get("GET")) is not None and not get.endless:
                methods.setdefault("HEAD", get)
        self._named = [
            (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))), self._exact.pop(path))
            for path in list(self._exact)
            if "{" in path
        ]
        self.find = lru_cache(MAX_KNOWN)(self._find)
        """The route of a method and a target with the path's names and the query, or a refusal (404, 405)."""

    def _find(self, method: str, target: str) -> tuple[Route, Mapping[str, str], Mapping[str, str]] | Reply:
        names = query = NOTHING
        methods = self._exact.get(target)
        if methods is None:
            path, query = _split(target)
            methods, names = self._by_path(path)
            if methods is None:
                return refusal(404, "not_found", f"no such route: {path[:100]}")
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(methods)
            return refusal(405, "method_not_allowed", f"this route takes {allowed}", {"Allow": allowed})
        return route, names, query

    def _by_path(self, path: str) -> tuple[_Methods | None, Mapping[str, str]]:
        if (methods := self._exact.get(path)) is not None:
            return methods, NOTHING
        for pattern, methods in self._named:
            if (found := pattern.fullmatch(path)) is not None:
                names = {name: unquote(text) for name, text in found.groupdict().items()}
                if not any("/" in text for text in names.values()):
                    return methods, names
        return None, NOTHING


def _split(target: str) -> tuple[str, Mapping[str, str]]:
    """Path and query of a target, also in absolute form (`http://host/path`); a parameter's first value counts."""
    if "://" in target[:12]:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    return path, dict(reversed(parse_qsl(query, keep_blank_values=True))) if query else NOTHING
