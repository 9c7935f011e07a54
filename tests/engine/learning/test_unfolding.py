"""Rows times matrix is what torch's own operator computes, whatever the strides, padding and groups."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional

from worker.engine.learning.unfolding import Unfolding, unfolding

CONVOLUTIONS: list[tuple[int, int, list[int], dict[str, Any]]] = [
    (1, 4, [3], {"pads": [1, 1]}),
    (1, 4, [3, 3], {}),
    (2, 4, [3, 2], {"strides": [2, 1], "pads": [1, 0, 1, 0]}),
    (4, 4, [3, 3], {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    (2, 6, [2, 2, 2], {"strides": [1, 2, 2], "pads": [0, 1, 0, 0, 1, 0]}),
    (1, 4, [1, 1], {"strides": [2, 2]}),
]


def _node(op: str, attributes: dict[str, Any], weight: int = 1) -> ir.Node:
    inputs = [ir.Value(name="x"), ir.Value(name="w")]
    ordered = inputs if weight == 1 else inputs[::-1]
    made = [ir.AttrInt64s(k, v) if isinstance(v, list) else ir.AttrInt64(k, v) for k, v in attributes.items()]
    return ir.Node("", op, ordered, made, outputs=[ir.Value(name="y")])


def _found(node: ir.Node, weight: int, shape: tuple[int, ...]) -> Unfolding:
    found = unfolding(node, weight, shape)
    assert isinstance(found, Unfolding), found
    return found


def _product(found: Unfolding, data: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    matrix = torch.tensor(found.matrix(weight.numpy()))
    return found.rows(data) @ matrix.mT[:, None]


@pytest.mark.parametrize(("groups", "outputs", "taps", "attributes"), CONVOLUTIONS)
def test_convolution(groups: int, outputs: int, taps: list[int], attributes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    rank = len(taps)
    data = torch.randn(2, 3 * groups, *(7 + i for i in range(rank)), dtype=torch.float64)
    weight = torch.randn(groups, outputs // groups, 3, *taps, dtype=torch.float64)
    pads = attributes.get("pads", [0] * 2 * rank)
    assert pads[:rank] == pads[rank:]
    conv = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[rank]
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    expected = conv(
        data, weight.flatten(0, 1), stride=strides, padding=pads[:rank], dilation=dilations, groups=groups
    )
    found = _found(_node("Conv", {**attributes, "group": groups}), 1, tuple(weight.shape))
    torch.testing.assert_close(_product(found, data, weight), found.results(expected))
    assert found.positions(data) == found.results(expected).shape[2]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [6, 7])
def test_automatic_padding(mode: str, size: int) -> None:
    """More padding after (upper) or before (lower) when it is odd; as many positions as strides fit."""
    data, weight = torch.randn(1, 2, size, dtype=torch.float64), torch.randn(1, 3, 2, 4, dtype=torch.float64)
    node = _node("Conv", {"strides": [2]})
    node.attributes["auto_pad"] = ir.AttrString("auto_pad", mode)
    found = _found(node, 1, tuple(weight.shape))
    total = (-(-size // 2) - 1) * 2 + 4 - size
    less, more = total // 2, total - total // 2
    padded = functional.pad(data, (less, more) if mode == "SAME_UPPER" else (more, less))
    expected = functional.conv1d(padded, weight[0], stride=2)
    torch.testing.assert_close(_product(found, data, weight), found.results(expected))


@pytest.mark.parametrize(
    ("groups", "taps", "stride", "pad", "more", "dilation"),
    [(1, [3], 2, 1, 1, 1), (2, [2, 3], 2, 0, 0, 1), (1, [3, 3], 1, 2, 0, 2), (3, [4, 4], 3, 1, 2, 1)],
)
def test_transposed_convolution(
    groups: int, taps: list[int], stride: int, pad: int, more: int, dilation: int
) -> None:
    torch.manual_seed(0)
    rank = len(taps)
    data = torch.randn(2, 2 * groups, *(4 + i for i in range(rank)), dtype=torch.float64)
    weight = torch.randn(groups, 3, 2, *taps, dtype=torch.float64)
    conv = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d}[rank]
    stored = weight.transpose(1, 2).flatten(0, 1)
    expected = conv(
        data, stored, stride=stride, padding=pad, output_padding=more, groups=groups, dilation=dilation
    )
    attributes = {
        "group": groups,
        "strides": [stride] * rank,
        "pads": [pad] * 2 * rank,
        "output_padding": [more] * rank,
        "dilations": [dilation] * rank,
    }
    found = _found(_node("ConvTranspose", attributes), 1, tuple(weight.shape))
    torch.testing.assert_close(_product(found, data, weight), found.results(expected))
    assert found.positions(data) == found.results(expected).shape[2]


def test_products_on_either_side() -> None:
    weight, data = torch.randn(5, 3), torch.randn(2, 4, 3)
    right = _found(_node("MatMul", {}), 1, (1, 5, 3))
    torch.testing.assert_close(_product(right, data, weight), right.results(data @ weight.T))
    left = _found(_node("MatMul", {}, weight=0), 0, (1, 5, 3))
    torch.testing.assert_close(_product(left, data.mT, weight), left.results(weight @ data.mT))
    assert right.rows(data).shape == left.rows(data.mT).shape == (1, 2, 4, 3)


def test_scaled_product() -> None:
    node = _node("Gemm", {})
    node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.5)
    weight, data = torch.randn(5, 3), torch.randn(4, 3)
    found = _found(node, 1, (1, 5, 3))
    torch.testing.assert_close(_product(found, data, weight), found.results(0.5 * data @ weight.T))


def test_some_positions() -> None:
    data, weight = torch.randn(2, 3, 6, 6), torch.randn(1, 4, 3, 3, 3)
    found = _found(_node("Conv", {}), 1, tuple(weight.shape))
    some = torch.tensor([0, 5, 9])
    torch.testing.assert_close(found.rows(data, some), found.rows(data)[:, :, some])
    made = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(found.results(made, some), found.results(made)[:, :, some])


def test_weights_there_and_back() -> None:
    weight = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    found = _found(_node("Conv", {"group": 2}), 1, weight.shape)
    np.testing.assert_array_equal(found.weight(found.matrix(weight)), weight)


@pytest.mark.parametrize("op", ["LSTM", "Einsum", "QLinearConv"])
def test_reasons(op: str) -> None:
    assert isinstance(unfolding(_node(op, {}), 1, (1, 2, 3)), str)
