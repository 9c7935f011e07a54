"""The service's addresses as templates: labels for metrics, and what `Allow` says in a 405."""

import re
from collections.abc import Iterable, Mapping
from typing import final

from fastapi import APIRouter
from starlette.routing import Route, compile_path

_UNMATCHED = "(none)"
_STATIC = "/static/"


@final
class RouteTable:
    """Looks addresses up. Built from routers by the prefix under which they are included."""

    def __init__(self, routers: Mapping[str, Iterable[APIRouter]]) -> None:
        methods: dict[str, set[str]] = {}
        for prefix, members in routers.items():
            for route in (route for router in members for route in router.routes):
                if isinstance(route, Route):
                    methods.setdefault(prefix + route.path, set()).update(route.methods or ())
        # Templates without parameters first: `/v1/jobs/validate` is no job's id.
        ordered = sorted(methods, key=lambda path: (path.count("{"), path))
        self._rows: list[tuple[str, re.Pattern[str], frozenset[str]]] = [
            (path, compile_path(path)[0], frozenset(methods[path])) for path in ordered
        ]

    def label(self, path: str) -> str:
        """The template that the path fits, so that ids never become labels."""
        if path.startswith(_STATIC):
            return _STATIC
        return next((template for template, pattern, _ in self._rows if pattern.fullmatch(path)), _UNMATCHED)

    def methods(self, path: str) -> frozenset[str]:
        """Every method that some route takes at that path."""
        fitting = [methods for _, pattern, methods in self._rows if pattern.fullmatch(path)]
        return frozenset[str]().union(*fitting)
