"""The example in docs/extending.md is the code that runs."""

import inspect
import re
from pathlib import Path

import docs
from worker.engine.allocation import lamp

PAGE = Path(docs.__file__).with_name("extending.md")


def test_the_example_is_the_real_part() -> None:
    """Every line of the example is a line of the file, but for the descriptions, which are shortened."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code = re.sub(r'"""(.*?)"""', "", example, flags=re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip()]
    real = inspect.getsource(lamp).splitlines()
    assert len(lines) >= 20
    assert [line for line in lines if line not in real] == []


def test_every_file_that_the_page_names_is_there() -> None:
    root = PAGE.parents[1]
    named = re.findall(r"`((?:worker|tests)/[\w/.]+)`", PAGE.read_text())
    assert len(named) >= 8
    assert [name for name in named if not (root / name).exists()] == []
