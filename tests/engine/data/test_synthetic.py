"""Random inputs have the shapes and types the model asks for, and are the same for a seed."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.jobs import InputSpec
from api_schemas.models import TensorInfo
from worker.engine.data import random_batches, random_inputs
from worker.engine.errors import NeedsInputsError


def info(name: str, shape: list[int | str | None] | None, dtype: str = "float32") -> TensorInfo:
    """One input."""
    return TensorInfo(name=name, dtype=dtype, shape=shape)


def test_the_batch_name_is_the_batch_on_every_axis() -> None:
    inputs = [info("x", ["N", "time", 8]), info("h", [2, "N", 16]), info("m", [None, "other"])]
    feeds = random_inputs(inputs, rows=5)
    assert {name: value.shape for name, value in feeds.items()} == {
        "x": (5, 1, 8),
        "h": (2, 5, 16),
        "m": (5, 1),
    }


def test_given_shapes_bind_their_names_everywhere() -> None:
    inputs = [info("x", ["N", "time"]), info("mask", ["N", "time", "time"])]
    feeds = random_inputs(inputs, rows=9, given={"x": [3, 7]})
    assert feeds["x"].shape == (3, 7)
    assert feeds["mask"].shape == (3, 7, 7)


@given(
    st.sampled_from(["float16", "float32", "float64", "bfloat16", "int8", "uint8", "int32", "int64", "bool"])
)
def test_numbers_are_of_the_type_and_safe(dtype: str) -> None:
    value = random_inputs([info("x", [None, 500], dtype)], rows=4, seed=3)["x"]
    assert value.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
    if dtype.startswith(("float", "bfloat")):
        plain = value.astype(np.float64)
        assert abs(plain.mean()) < 0.1
        assert abs(plain.std() - 1) < 0.1
    else:
        assert set(np.unique(value).tolist()) == {0, 1}


def test_a_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    inputs = [info("x", [None, 4])]
    first, again, other = (random_inputs(inputs, seed=seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_unknown_shape_asks_for_inputs() -> None:
    with pytest.raises(NeedsInputsError) as caught:
        random_inputs([info("x", None)])
    assert caught.value.hint is not None
    assert random_inputs([info("x", None)], given={"x": [2, 3]})["x"].shape == (2, 3)


def test_text_inputs_are_refused() -> None:
    with pytest.raises(NeedsInputsError):
        random_inputs([info("x", [1], "string")])


def test_values_are_fed_as_they_are() -> None:
    feeds = random_inputs([info("x", [1]), info("sr", [], "int64")], given={"sr": InputSpec(value=8000)})
    assert feeds["sr"].shape == ()
    assert feeds["sr"] == 8000


@pytest.mark.parametrize(
    ("shape", "sizes"), [([None, 2], [4, 4, 2]), ([4, 2], [4, 4, 4]), ([1, 2], [1] * 10)]
)
def test_batches_reach_the_rows_asked_for(shape: list[int | str | None], sizes: list[int]) -> None:
    batches = list(random_batches([info("x", shape)], rows=10, size=4, seed=0))
    assert [batch.rows for batch in batches] == sizes
    assert len({batch.feeds["x"].tobytes() for batch in batches}) == len(batches)
