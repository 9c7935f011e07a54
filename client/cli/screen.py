"""What goes to the terminal: data to standard output, the rest to standard error, colour where wanted."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from io import StringIO
from json import dumps
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_json_wanted: ContextVar[bool] = ContextVar("json_wanted", default=False)
# Names come out of untrusted files: nothing in them may steer the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def set_json(wanted: bool) -> bool:
    """Remember for this command whether it answers in JSON."""
    _json_wanted.set(wanted)
    return wanted


def json_wanted() -> bool:
    """Whether ``--json`` was given."""
    return _json_wanted.get()


def clean(text: object) -> str:
    """`text` without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def errors_console() -> Console:
    """Standard error as rich sees it: no colour and no movement unless it is a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{clean(text)}\n")
    sys.stderr.flush()


def error_line(code: str, message: str) -> None:
    """``error [code] message`` on standard error."""
    errors_console().print(Text.assemble(("error", "bold red"), f" [{clean(code)}] ", clean(message)))


def write(text: str) -> None:
    """A line of data on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_json(data: BaseModel | Mapping[str, Any]) -> None:
    """An answer as indented JSON on standard output."""
    if isinstance(data, BaseModel):
        write(data.model_dump_json(indent=2))
    else:
        write(dumps(data, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> None:
    """Rows on standard output; `right` lists the columns aligned right. Nothing is cut off a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000, file=StringIO())
    grid = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, header_style="bold")
    numbers = set(right)
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(clean("" if cell is None else cell)) for cell in row))
    console.print(grid)
    if isinstance(console.file, StringIO):  # off a terminal, no padding at the ends of lines
        write("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Label and value, one per line."""
    shown = [(label, clean(value)) for label, value in rows if value is not None]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        write(f"{label:<{width}}  {value}")
