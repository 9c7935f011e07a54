"""Graphs that PyTorch would not write: ONNX in its text form, weights drawn from a seed.

A tensor declared between `<` and `>` without a value becomes a random initializer; `x` is the first input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from zlib import crc32

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Drawing:
    """One graph. `edit` changes the finished model in ways that the text form cannot say."""

    name: str
    text: str
    opset: int = 17
    ir: int = 8
    edit: Callable[[onnx.ModelProto], None] | None = None

    def model(self) -> onnx.ModelProto:
        """The model; the same bytes at every call."""
        domains = f'"": {self.opset}, "com.microsoft": 1, "zoo": 1'
        header = f"<ir_version: {self.ir}, opset_import: [{domains}]>"
        model = parser.parse_model(f"{header}\n{self.name} {self.text}")
        _fill(model.graph, np.random.default_rng(crc32(self.name.encode())))
        _drop_unused_domains(model)
        if self.edit is not None:
            self.edit(model)
        return model

    def write(self, path: Path) -> Path:
        """Save the model there."""
        onnx.save(self.model(), str(path))
        return path

    def feeds(self, batch: int = 2, seed: int = 0) -> dict[str, Array]:
        """Inputs by name; symbolic axes take the size `batch`."""
        rng = np.random.default_rng(seed)
        graph = self.model().graph
        stored = {tensor.name for tensor in graph.initializer}
        return {value.name: _draw(value, batch, rng) for value in graph.input if value.name not in stored}


def _draw(value: onnx.ValueInfoProto, batch: int, rng: np.random.Generator) -> Array:
    kind = value.type.tensor_type
    shape = [axis.dim_value or batch for axis in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if kind.elem_type == TensorProto.BOOL:
        return np.ones(shape, dtype)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 4, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _fill(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    for value in [*graph.value_info]:
        kind = value.type.tensor_type
        shape = [axis.dim_value for axis in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        graph.initializer.append(numpy_helper.from_array(_weight(value.name, shape, dtype, rng), value.name))
    del graph.value_info[:]


def _weight(name: str, shape: list[int], dtype: Any, rng: np.random.Generator) -> Array:
    """Names tell the role: v… variances and scales are positive, q… are whole numbers, others normal."""
    if np.issubdtype(dtype, np.integer):
        return rng.integers(-100, 100, shape).astype(dtype)
    if name.startswith("v"):
        return (
            rng.uniform(0.01, 0.02, shape).astype(dtype)
            if name.startswith("vq")
            else _positive(shape, dtype, rng)
        )
    fan_in = max(1, int(np.prod(shape[1:])))
    return (rng.standard_normal(shape) * (1.6 / fan_in) ** 0.5).astype(dtype)


def _positive(shape: list[int], dtype: Any, rng: np.random.Generator) -> Array:
    return rng.uniform(0.5, 1.5, shape).astype(dtype)


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    text = onnx.printer.to_text(model)
    used = [entry for entry in model.opset_import if not entry.domain or f"{entry.domain}." in text]
    if any(function.domain == "zoo" for function in model.functions):
        used = [entry for entry in model.opset_import if not entry.domain or entry.domain == "zoo"]
    del model.opset_import[:]
    model.opset_import.extend(used)


DRAWINGS: dict[str, Drawing] = {}


def draw(name: str, text: str, **options: Any) -> None:
    """Put a graph among the drawings; a name can be taken only once."""
    if name in DRAWINGS:
        raise ValueError(f"two drawings called {name}")
    DRAWINGS[name] = Drawing(name, text, **options)


def conv_chain(middle: str, weights: str = "", channels: int = 12, batch: str = "N") -> str:
    """Text: Conv(4→12) and Relu give `h`, the middle must give `g`, Conv(channels→6) ends."""
    more = f", {weights}" if weights else ""
    return f"""(float[{batch},4,8,8] x) => (float[{batch},6,P,Q] y)
    <float[12,4,3,3] w1, float[12] b1, float[6,{channels},1,1] w2, float[6] b2{more}>
    {{
        c = Conv<pads=[1,1,1,1]>(x, w1, b1)
        h = Relu(c)
        {middle}
        y = Conv(g, w2, b2)
    }}"""
