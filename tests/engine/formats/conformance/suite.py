"""The operator tests that the installed `onnx` package generates: cases, and who passes them.

A case is judged by the suite's own expected outputs at the suite's own tolerances, for ONNX Runtime and for
our module alike. Nothing is downloaded: the suite's real models, which would be, are not among the cases.
"""

import ctypes
import functools
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    numpy_helper,
    version_converter,
)
from onnx.backend.test.loader import load_model_tests

from worker.engine.formats import LoadOptions, load
from worker.engine.formats.graph_module import GraphModule, graph_module
from worker.engine.formats.graph_tensors import to_array, to_torch
from worker.engine.formats.operators import find
from worker.engine.formats.operators.call import Mode

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
#: The oldest opset that the module follows. The few older cases are brought to it by ONNX's own converter.
OLDEST = 7
Array = np.ndarray[Any, np.dtype[Any]]
Inputs = list[Any]
#: A model as a function of its inputs.
Run = Callable[[Inputs], Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Case:
    """One test: a model, its data sets of inputs and expected outputs, how close outputs must be."""

    name: str
    model: ModelProto
    data: tuple[tuple[Inputs, list[Any]], ...]
    rtol: float
    atol: float

    @property
    def opset(self) -> int:
        return next((one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")), OLDEST)


@functools.cache
def cases() -> dict[str, Case]:
    """Every case by name."""
    with warnings.catch_warnings():
        # The suite computes its expected outputs while it loads, overflows in casts included.
        warnings.simplefilter("ignore")
        found = [_case(test) for kind in KINDS for test in load_model_tests(kind=kind)]
    return {case.name: case for case in found}


def _case(test: Any) -> Case:
    folder = Path(test.model_dir or "")
    model = test.model or onnx.load(folder / "model.onnx")
    data = test.data_sets or [_stored(model, one) for one in sorted(folder.glob("test_data_set_*"))]
    return Case(test.name, model, tuple(tuple(map(_arrays, one)) for one in data), test.rtol, test.atol)


def _stored(model: ModelProto, folder: Path) -> tuple[list[Any], list[Any]]:
    def read(kind: str) -> list[Any]:
        count = len(list(folder.glob(f"{kind}_*.pb")))
        return [TensorProto.FromString((folder / f"{kind}_{i}.pb").read_bytes()) for i in range(count)]

    tensors = all(value.type.HasField("tensor_type") for value in (*model.graph.input, *model.graph.output))
    return (read("input"), read("output")) if tensors else ([], [])


def _arrays(values: Sequence[Any]) -> list[Any]:
    """The suite gives scalars and messages beside arrays."""
    return [
        numpy_helper.to_array(one)
        if isinstance(one, TensorProto)
        else np.asarray(one)
        if np.isscalar(one)
        else one
        for one in values
    ]


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Nodes of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from nodes(attribute.g)


def family(case: Case) -> str:
    """The module in which the operator that a case is about is computed.

    A case that ends in `_expanded` is about the operator whose definition it writes out.
    """
    whole = cases().get(case.name.split("_expanded")[0], case)
    first = next((node for node in whole.model.graph.node if node.op_type != "Constant"), None)
    if first is None:
        return "layout"
    opset = next((one.version for one in whole.model.opset_import if one.domain == first.domain), 1)
    found = find(first.domain, first.op_type, max(opset, OLDEST))
    return "uncovered" if found is None else found.function.__module__.rpartition(".")[2]


def outcome(case: Case, prepare: Callable[[ModelProto], Run]) -> str | None:
    """None where all outputs agree, else in a few words why not."""
    try:
        run = prepare(case.model)
        for inputs, expected in case.data:
            pairs = zip(_flat(run(inputs)), _flat(expected), strict=True)
            for place, (found, wanted) in enumerate(pairs):
                difference = _difference(found, wanted, case)
                if difference is not None:
                    return f"output {place}: {difference}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def _flat(values: Sequence[Any]) -> list[Any]:
    """Outputs with sequences of tensors taken apart."""
    return [each for one in values for each in (_flat(one) if isinstance(one, (list, tuple)) else [one])]


def _difference(found: Any, wanted: Any, case: Case) -> str | None:
    if found.dtype != wanted.dtype:
        return f"{found.dtype} instead of {wanted.dtype}"
    if found.shape != wanted.shape:
        return f"shape {found.shape} instead of {wanted.shape}"
    if wanted.dtype.kind in "OSU":
        return None if (found == wanted).all() else "other texts"
    rtol = max(case.rtol, 2**-6) if wanted.dtype == ml_dtypes.bfloat16 else case.rtol
    with np.errstate(invalid="ignore"):
        close = np.isclose(_wide(found), _wide(wanted), rtol=rtol, atol=case.atol, equal_nan=True)
    return None if close.all() else f"{np.count_nonzero(~close)} of {close.size} elements differ"


def _wide(array: Array) -> Array:
    return array if array.dtype.kind in "biuc" and _own(array.dtype) else array.astype(np.float64)


def by_onnxruntime(model: ModelProto) -> Run:
    """ONNX Runtime's CPU kernels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]
    kinds = [one.type for one in (*session.get_inputs(), *session.get_outputs())]
    numeric = all(kind.startswith("tensor(") and kind != "tensor(string)" for kind in kinds)

    def run(inputs: Inputs) -> Sequence[Any]:
        feeds = dict(zip(names, inputs, strict=True))
        if not numeric:
            plain: Sequence[Any] = session.run(None, feeds)
            return plain
        found = session.run_with_ort_values(None, {name: _ort_value(one) for name, one in feeds.items()})
        return list(map(_ort_array, found))

    return run


def _ort_value(array: Array) -> onnxruntime.OrtValue:
    """An input; of a type that numpy borrows from ml_dtypes by its bits."""
    array = np.array(array, order="C")
    if _own(array.dtype):
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    code = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    bits = array.view(f"u{array.dtype.itemsize}")
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, code)


def _own(dtype: np.dtype[Any]) -> bool:
    """Whether the type is numpy's own."""
    return dtype.isbuiltin == 1


def _ort_array(value: onnxruntime.OrtValue) -> Array:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.element_type())
    if _own(dtype):
        return value.numpy()
    held = (ctypes.c_char * value.tensor_size_in_bytes()).from_address(value.data_ptr())
    return np.frombuffer(bytes(held), dtype).reshape(value.shape())


def by_torch(model: ModelProto) -> Run:
    """Our module, from a file as a user would send it."""
    module = followed(model)
    types = [
        onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type) for one in model.graph.output
    ]

    def run(inputs: Inputs) -> Sequence[Any]:
        with torch.no_grad():
            found = module(*map(to_torch, inputs))
        return [_as_stored(one, dtype) for one, dtype in zip(found, types, strict=True)]

    return run


def _as_stored(tensor: torch.Tensor, dtype: np.dtype[Any]) -> Array:
    """The output in the type that the file says; its own type where it is not held in the one promised."""
    held = Mode(torch.device("cpu")).computed(to_torch(np.empty(0, dtype)).dtype)
    return to_array(tensor, dtype) if tensor.dtype == held else tensor.numpy()


def followed(model: ModelProto, dtype: torch.dtype | None = None) -> GraphModule:
    """The module of a model, from a file."""
    old = any(one.domain in ("", "ai.onnx") and one.version < OLDEST for one in model.opset_import)
    if old:
        model = version_converter.convert_version(model, OLDEST)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return graph_module(load(path, LoadOptions(scratch=Path(folder))), dtype=dtype)
