"""ONNX Runtime's own attention, norms and products; the runtime itself is the judge."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.engine.formats.conformance.suite import by_torch
from tests.engine.formats.operators.nodes import agree, node_model, shaped
from worker.engine.errors import InvalidRecipeError

Array = np.ndarray[Any, np.dtype[Any]]
MICROSOFT = "com.microsoft"
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT32


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def ints(*numbers: Any) -> Array:
    return np.array(numbers, np.int32)


def held(
    name: str,
    inputs: Sequence[Array | None],
    outputs: Sequence[int] = (FLOAT,),
    attributes: Mapping[str, Any] | None = None,
) -> None:
    agree(name, inputs, outputs, attributes, 17, MICROSOFT, atol=2e-5)


X, W, B = floats(2, 5, 6), floats(6, 24) * 0.5, floats(24)
KEYS = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ([X, W, B], {"num_heads": 2}),
        ([X, W, B], {"num_heads": 4, "unidirectional": 1, "scale": 0.3}),
        ([X, W, B], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 8]}),
        ([X, W, B], {"num_heads": 2, "qkv_hidden_sizes": [6, 6, 12]}),
        ([X, W, B, KEYS], {"num_heads": 2}),
        ([X, W, B, ints(4, 2)], {"num_heads": 2}),
        ([X, W, B, np.tile(KEYS[:, None], (1, 5, 1))], {"num_heads": 2}),
        ([X, W, B, None, None, floats(1, 2, 5, 5)], {"num_heads": 2}),
    ],
)
def test_attention(inputs: list[Array | None], attributes: dict[str, Any]) -> None:
    held("Attention", inputs, (FLOAT,), attributes)


def test_attention_with_a_cache() -> None:
    inputs = [X, W, B, None, floats(2, 2, 2, 3, 4)]
    held("Attention", inputs, (FLOAT, FLOAT), {"num_heads": 2, "unidirectional": 1})


Q, K, V = floats(2, 5, 8), floats(2, 7, 8), floats(2, 7, 12)


@pytest.mark.parametrize(
    ("inputs", "outputs", "attributes"),
    [
        ([Q, K, V], (FLOAT,), {}),
        ([Q, K, V, floats(28)], (FLOAT,), {"scale": 0.2}),
        ([Q, K, V, None, ints([1] * 6 + [0], [1] * 3 + [0] * 4)], (FLOAT,), {}),
        ([Q, K, V, None, None, floats(1, 1, 5, 7)], (FLOAT,), {}),
        ([Q, floats(2, 2, 7, 4), floats(2, 2, 7, 4)], (FLOAT,), {}),
        ([Q, floats(2, 5, 8), floats(2, 5, 8)], (FLOAT,), {"unidirectional": 1}),
    ],
)
def test_multi_head(inputs: list[Array | None], outputs: tuple[int, ...], attributes: dict[str, Any]) -> None:
    held("MultiHeadAttention", inputs, outputs, {"num_heads": 2, **attributes})


def test_multi_head_with_a_cache() -> None:
    inputs = [Q, floats(2, 5, 8), floats(2, 5, 8), None, None, None, floats(2, 2, 3, 4), floats(2, 2, 3, 4)]
    held("MultiHeadAttention", inputs, (FLOAT, FLOAT, FLOAT), {"num_heads": 2})


def group_inputs(past: int, length: int) -> list[Array | None]:
    """One sample of four query heads on two key and value heads of 16 features."""
    total = past + length
    made: list[Array | None] = [floats(1, length, 64), floats(1, length, 32), floats(1, length, 32, seed=1)]
    made += [floats(1, 2, past, 16), floats(1, 2, past, 16, seed=1)] if past else [None, None]
    return [*made, ints(total - 1), np.array([total], np.int32)]


@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"scale": 0.1, "softcap": 2.0},
        {"do_rotary": 1},
        {"do_rotary": 1, "rotary_interleaved": 1},
        {"local_window_size": 3},
    ],
)
def test_grouped(past: int, attributes: dict[str, Any]) -> None:
    inputs = group_inputs(past, 5)
    if "do_rotary" in attributes:
        inputs += [floats(16, 8), floats(16, 8, seed=1)]
    held("GroupQueryAttention", inputs, (FLOAT,) * 3, {"num_heads": 4, "kv_num_heads": 2, **attributes})


def test_grouped_with_operands_in_one() -> None:
    query, key, value, *others = group_inputs(0, 5)
    assert query is not None
    assert key is not None
    assert value is not None
    packed = np.concatenate([query, key, value], axis=-1)
    held(
        "GroupQueryAttention",
        [packed, None, None, *others],
        (FLOAT,) * 3,
        {"num_heads": 4, "kv_num_heads": 2},
    )


PLACES = np.tile(np.arange(5), (2, 1))


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ([floats(2, 5, 16), PLACES, floats(8, 4), floats(8, 4, seed=1)], {}),
        ([floats(2, 5, 16), PLACES, floats(8, 4), floats(8, 4, seed=1)], {"interleaved": 1}),
        ([floats(2, 5, 16), np.array([2]), floats(8, 4), floats(8, 4, seed=1)], {}),
        ([floats(2, 2, 5, 8), PLACES, floats(8, 4), floats(8, 4, seed=1)], {}),
        (
            [floats(2, 5, 16), PLACES, floats(8, 2), floats(8, 2, seed=1)],
            {"num_heads": 2, "rotary_embedding_dim": 4},
        ),
    ],
)
def test_rotary(inputs: list[Array | None], attributes: dict[str, Any]) -> None:
    held("RotaryEmbedding", inputs, (FLOAT,), attributes)


WORDS, KINDS = ints([1, 2, 0, 3], [2, 2, 1, 0]), ints([0, 0, 1, 1], [0, 1, 1, 1])
TABLES = [floats(5, 6), floats(4, 6), floats(2, 6), floats(6), floats(6, seed=3)]


def test_embeddings() -> None:
    held("EmbedLayerNormalization", [WORDS, KINDS, *TABLES], (FLOAT, INT, FLOAT))
    held("EmbedLayerNormalization", [WORDS, None, *TABLES[:2], None, *TABLES[3:]], (FLOAT, INT))
    mask = ints([1, 1, 1, 0], [1, 0, 0, 0])
    held("EmbedLayerNormalization", [WORDS, KINDS, *TABLES, mask], (FLOAT, INT))


def test_norm_of_a_sum() -> None:
    inputs = [floats(2, 3, 8), floats(2, 3, 8, seed=1), floats(8), floats(8, seed=1)]
    held("SkipSimplifiedLayerNormalization", inputs, (FLOAT, 0, 0, FLOAT), {"epsilon": 1e-3})


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4]), ("Tanh", [])],
)
def test_convolutions_with_activations(activation: str, parameters: list[float]) -> None:
    named: dict[str, Any] = {"activation": activation, "kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    if parameters:
        named["activation_params"] = parameters
    inputs = [floats(2, 3, 5, 5), floats(4, 3, 3, 3), floats(4)]
    held("FusedConv", inputs, (FLOAT,), named)
    if activation == "Relu":
        held("FusedConv", [*inputs, floats(2, 4, 5, 5)], (FLOAT,), named)


def test_products_with_activations() -> None:
    inputs = [floats(3, 4), floats(5, 4), floats(5)]
    held("FusedGemm", inputs, (FLOAT,), {"transB": 1, "activation": "Relu", "alpha": 0.5})
    named = {"transB": 1, "activation": "LeakyRelu", "activation_alpha": 0.3}
    held("FusedGemm", inputs, (FLOAT,), named)


def test_what_is_not_computed_is_said() -> None:
    model = node_model("Attention", [X, W, B], (FLOAT,), {"num_heads": 2, "do_rotary": 1}, 17, MICROSOFT)
    with pytest.raises(InvalidRecipeError, match="turns positions"):
        by_torch(shaped(model, [floats(2, 5, 8)]))([X, W, B])
