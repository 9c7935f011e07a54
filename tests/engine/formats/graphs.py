"""Small ONNX graphs in ONNX's text form, loaded as users' files are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper

from worker.engine.formats import LoadOptions, load, runner
from worker.engine.formats.base import Network

Array = np.ndarray[Any, np.dtype[Any]]


def model(text: str, weights: Mapping[str, Array] = {}, opset: int = 17) -> onnx.ModelProto:
    """A model of a graph in text, with these initializers."""
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "own" : 1]>\n{text}')
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return made


def network(made: onnx.ModelProto, folder: Path) -> Network:
    """The model as a network, from a file `model.onnx` in the folder."""
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return load(path, LoadOptions())


def by_runtime(path: Path, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What ONNX Runtime makes of the file."""
    ready = runner(path, LoadOptions(), 1)
    feeds = dict(zip(ready.input_names, (one.numpy() for one in inputs), strict=True))
    return [torch.from_numpy(np.array(one)) for one in ready.run(feeds)]


def named(network: Network, name: str) -> ir.Value:
    """The value of that name, wherever in the graph or a function it is."""
    structure = network.structure
    bodies = (structure.graph, *structure.functions.values())
    made = (value for body in bodies for node in body.all_nodes() for value in node.outputs)
    held = (value for graph in structure.graphs() for value in (*graph.inputs, *graph.initializers.values()))
    return next(value for value in (*made, *held) if value.name == name)


def gap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, as a share of the largest magnitude."""
    assert found.shape == wanted.shape
    wide = wanted.double()
    largest = wide.abs().max().clamp(min=1e-30) if wide.numel() else torch.ones(())
    return float(((found.detach().double() - wide).abs() / largest).max()) if wide.numel() else 0.0
