"""Model files for the tests, built in code, and the values in a network."""

import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from worker.engine.formats.base import Network

SHARED = Path(__file__).parents[4] / "shared" / "models"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/models beside the checkout")


def values(network: Network) -> list[ir.Value]:
    """All stored tensors of a structure: initializers of every graph, then outputs of Constant nodes."""
    return list(_values(network.structure))


def _values(structure: ir.Model) -> Iterator[ir.Value]:
    for graph in structure.graphs():
        yield from graph.initializers.values()
    for body in (structure.graph, *structure.functions.values()):
        for node in body.all_nodes():
            if node.op_type == "Constant":
                yield node.outputs[0]


def writable(network: Network) -> list[ir.Value]:
    """Those that may be written."""
    return [value for value in values(network) if network.writable(value)]


def value_named(network: Network, name: str) -> ir.Value:
    """The stored tensor of that name."""
    return next(value for value in values(network) if value.name == name)


def onnx_model(
    initializers: Sequence[TensorProto], nodes: Sequence[onnx.NodeProto] = (), **extra: object
) -> onnx.ModelProto:
    """A runnable model: Y = X, and the initializers beside it."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"]), *nodes],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["n", 4])],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **extra)


def dense_model() -> onnx.ModelProto:
    """Two MatMuls with a Relu between, weights W1 and W2, with metadata and documentation."""
    weights = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["X", "W1"], ["H"], name="first", doc_string="the first"),
                helper.make_node("Relu", ["H"], ["R"]),
                helper.make_node("MatMul", ["R", "W2"], ["Y"]),
            ],
            "dense",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["n", 4])],
            [onnx.numpy_helper.from_array(weights[0], "W1"), onnx.numpy_helper.from_array(weights[1], "W2")],
            doc_string="a graph",
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="tests",
        producer_version="3",
        doc_string="a model",
    )
    helper.set_model_props(model, {"key": "value"})
    return model


def external_model(folder: Path, *, offset: int = 0, location: str = "model.data") -> onnx.ModelProto:
    """`dense_model` in `folder` with W1 in an external file, behind `offset` bytes of something else."""
    model = dense_model()
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    set_external(tensor, location=location, offset=str(offset), length=str(len(data)))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if ".." not in location and not location.startswith("/"):
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(b"\xee" * offset + data + b"tail")
    return model


def set_external(tensor: TensorProto, **entries: str) -> None:
    """Move a tensor outside: only the entries remain."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def quietly(call, *arguments, **named):
    """torch says at every use that TorchScript is deprecated; the tests must use it to make its files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return call(*arguments, **named)


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """torch.jit.script."""
    return quietly(torch.jit.script, module)


def traced(module: torch.nn.Module, *examples: torch.Tensor) -> torch.jit.ScriptModule:
    """torch.jit.trace."""
    return quietly(torch.jit.trace, module, examples, check_trace=False)


def frozen(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """torch.jit.freeze: parameters become constants of the code."""
    return quietly(torch.jit.freeze, scripted(module.eval()))


def reloaded(path: Path, **options: object) -> torch.jit.ScriptModule:
    """torch.jit.load, as a user would."""
    return quietly(torch.jit.load, str(path), map_location="cpu", **options)


def save_script(module: torch.nn.Module, path: Path, **extra: str) -> Path:
    """Script and save."""
    return save_jit(scripted(module.eval()), path, **extra)


def save_jit(module: torch.jit.ScriptModule, path: Path, **extra: str) -> Path:
    """torch.jit.save."""
    buffer = io.BytesIO()
    quietly(torch.jit.save, module, buffer, _extra_files=extra)
    path.write_bytes(buffer.getvalue())
    return path


def random_array(dtype: np.dtype, shape: Sequence[int], seed: int) -> np.ndarray:
    """Bits at random that make no NaN, whatever the type."""
    generator = np.random.default_rng(seed)
    if dtype == np.bool_:
        return generator.random(shape) < 0.5
    if dtype.kind in "iu" or dtype in (ml_dtypes.int4, ml_dtypes.uint4):
        return generator.integers(0, 7, shape).astype(dtype)
    return generator.normal(size=shape).astype(dtype)
