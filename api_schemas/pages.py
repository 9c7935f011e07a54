"""Cursor pages: opaque, stable under inserts."""

from typing import Generic, TypeVar

from api_schemas.base import Answer

Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """One page, newest first; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None = None
