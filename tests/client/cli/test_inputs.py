"""Input shapes on the command line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.cli.exits import UsageError
from client.cli.inputs import parse_inputs

NAMES = st.text(min_size=1, max_size=10)
SIZES = st.lists(st.integers(1, 2**31), max_size=6)


@given(name=NAMES, sizes=st.lists(st.integers(1, 2**31), min_size=2, max_size=6))
def test_shapes(name: str, sizes: list[int]) -> None:
    assert parse_inputs([f"{name}={','.join(map(str, sizes))}"]) == {name: sizes}


@given(name=NAMES, sizes=SIZES, dtype=st.sampled_from(["int64", "float16"]))
def test_shapes_with_dtypes(name: str, sizes: list[int], dtype: str) -> None:
    text = f"{name}={','.join(map(str, sizes))}:{dtype}"
    assert parse_inputs([text]) == {name: {"shape": sizes, "dtype": dtype}}


@given(name=NAMES, value=st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_values(name: str, value: Any) -> None:
    found = parse_inputs([f"{name}={value}"])[name]["value"]
    assert found == value
    assert type(found) is type(value)


def test_examples() -> None:
    texts = ["x=1,3,32,32", "ids=1,77:int64", "v=16,", "sr=16000", "input:0=1,2", "a=b=1,2", "s=:int64"]
    assert parse_inputs(texts) == {
        "x": [1, 3, 32, 32],
        "ids": {"shape": [1, 77], "dtype": "int64"},
        "v": [16],
        "sr": {"value": 16000},
        "input:0": [1, 2],
        "a=b": [1, 2],
        "s": {"shape": [], "dtype": "int64"},
    }


@pytest.mark.parametrize(
    "text", ["x", "=1,2", "x=", "x=a,b", "x=0,1", "x=-1,2", "x=1,,2", "x=1.5,2", "x=hello"]
)
def test_nonsense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_inputs([text])
    assert text in caught.value.message
    assert caught.value.hint
