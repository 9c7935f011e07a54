"""A chain's file run by torch in float64, operator by operator, sharing nothing with the engine."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

Array = np.ndarray[Any, np.dtype[Any]]


class Plain:
    """Tensors by name, and the nodes in order. Tensors may be replaced before a run."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.nodes = list(graph.node)
        self.tensors = {
            item.name: torch.tensor(numpy_helper.to_array(item).astype(np.float64))
            for item in graph.initializer
        }
        self.output = graph.output[0].name

    def run(self, x: Array, **replaced: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every value by name."""
        found = {**self.tensors, "x": torch.tensor(x.astype(np.float64)), **replaced}
        for node in self.nodes:
            operands = [found[name] for name in node.input]
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            found[node.output[0]] = _apply(node.op_type, operands, attributes)
        return found

    def outputs(self, x: Array, **replaced: torch.Tensor) -> torch.Tensor:
        """The output."""
        return self.run(x, **replaced)[self.output]


def _apply(op: str, operands: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    first, *rest = operands
    if op == "Gemm":
        made = first @ (rest[0].T if attributes.get("transB") else rest[0])
        return made + rest[1] if len(rest) > 1 else made
    if op == "Conv":
        return functional.conv2d(first, rest[0], rest[1], padding=attributes["pads"][0])
    if op == "BatchNormalization":
        scale, bias, mean, variance = (item[:, None, None] if first.dim() == 4 else item for item in rest)
        return (first - mean) / torch.sqrt(variance + attributes["epsilon"]) * scale + bias
    simple = {
        "MatMul": lambda: first @ rest[0],
        "Relu": lambda: first.relu(),
        "Sigmoid": lambda: first.sigmoid(),
        "Flatten": lambda: first.flatten(1),
        "MaxPool": lambda: functional.max_pool2d(first, 2),
    }
    return simple[op]()
