"""Counting zeros in model files without any of the product's code: with onnx, and with torch.jit.

For files of known origin only: loading TorchScript runs it.
"""

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.model_run import load_torchscript

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Recount:
    """What two files say about each other; `weights` are those that the report names."""

    weights: int
    zeros: int
    kept_are_same: bool
    others_are_same: bool

    @property
    def sparsity(self) -> float:
        """Share of the named weights that are zero."""
        return self.zeros / self.weights if self.weights else 0.0


def recount(before: Path, after: Path, names: Iterable[str]) -> Recount:
    """Compare the tensors of two files; `names` are the weights that were pruned."""
    old, new, pruned = tensors(before), tensors(after), set(names)
    missing = pruned - new.keys()
    if missing:
        raise LookupError(f"not in {after.name}: {', '.join(sorted(missing))}")
    return Recount(
        weights=sum(new[name].size for name in pruned),
        zeros=sum(int(np.count_nonzero(new[name] == 0)) for name in pruned),
        kept_are_same=all(_kept_are_same(old[name], new[name]) for name in pruned),
        others_are_same=old.keys() == new.keys()
        and all(_same(old[name], new[name]) for name in old.keys() - pruned),
    )


def _kept_are_same(old: Array, new: Array) -> bool:
    return old.shape == new.shape and bool(np.all((old == new) | (new == 0)))


def _same(old: Array, new: Array) -> bool:
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def tensors(path: Path) -> dict[str, Array]:
    """Every stored tensor by name."""
    if not zipfile.is_zipfile(path):
        return _onnx_tensors(onnx.load(path))
    with zipfile.ZipFile(path) as archive:
        if not any(name.endswith(".onnx") for name in archive.namelist()):
            return _torch_tensors(path)
        with tempfile.TemporaryDirectory() as name:
            archive.extractall(name)
            return _onnx_tensors(onnx.load(next(Path(name).rglob("*.onnx"))))


def _torch_tensors(path: Path) -> dict[str, Array]:
    return {name: tensor.detach().numpy() for name, tensor in load_torchscript(path).state_dict().items()}


def _onnx_tensors(model: onnx.ModelProto) -> dict[str, Array]:
    return {name: numpy_helper.to_array(tensor) for name, tensor in _graph_tensors(model.graph)}


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers and Constant outputs, also of the graphs inside If and Loop."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                yield node.output[0], attribute.t
            elif attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
