"""Checking and running model files without any of the product's code."""

import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

Array = np.ndarray[Any, np.dtype[Any]]
Shapes = Mapping[str, Any]
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
_OPEN = 32  # for a dimension that may have any size


def same_interface(before: Path, after: Path) -> bool:
    """Whether inputs and outputs have the same names, types and shapes."""
    return interface(before) == interface(after)


def interface(path: Path) -> object:
    """Inputs and outputs, in a form that can be compared."""
    if is_torchscript(path):
        module = load_torchscript(path)
        return str(module.forward.schema)
    graph = _onnx_file(path, onnx.load).graph
    return [value.SerializeToString() for value in (*graph.input, *graph.output)]


def passes_checker(path: Path) -> bool:
    """Whether the ONNX checker takes the file."""
    try:
        _onnx_file(path, lambda file: onnx.checker.check_model(str(file)))
    except onnx.checker.ValidationError:
        return False
    return True


def runs(path: Path, shapes: Shapes) -> bool:
    """Whether the file gives outputs, in ONNX Runtime or in torch; `shapes` as in a job's `inputs`."""
    outputs = (
        _run_torch(path, shapes) if is_torchscript(path) else _onnx_file(path, lambda f: _run_onnx(f, shapes))
    )
    return len(outputs) > 0


def load_torchscript(path: Path) -> Any:
    """The module of a file that is trusted: loading runs its code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch calls TorchScript a thing of the past
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive; a zip with an ONNX file inside is not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return not any(name.endswith(".onnx") for name in archive.namelist())


def _onnx_file(path: Path, use: Any) -> Any:
    """Apply `use` to the ONNX file, taken out of its zip where it lies in one."""
    if not zipfile.is_zipfile(path):
        return use(path)
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(path) as archive:
        archive.extractall(name)
        return use(next(Path(name).rglob("*.onnx")))


def _run_onnx(path: Path, shapes: Shapes) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {value.name: _feed(value, shapes.get(value.name)) for value in session.get_inputs()}
    return list(session.run(None, feeds))


def _feed(value: Any, given: Any) -> Array:
    dtype = _DTYPES[value.type]
    if isinstance(given, dict):
        return np.array(given["value"], dtype)
    sizes = given or [_size(axis, size) for axis, size in enumerate(value.shape)]
    return np.random.default_rng(0).random(sizes).astype(dtype)


def _size(axis: int, size: object) -> int:
    if isinstance(size, int) and size > 0:
        return size
    return 1 if axis == 0 else _OPEN


def _run_torch(path: Path, shapes: Shapes) -> list[Any]:
    module = load_torchscript(path)
    torch.manual_seed(0)
    with torch.inference_mode():
        outputs = module.eval()(*(_argument(given) for given in shapes.values()))
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _argument(given: Any) -> Any:
    if isinstance(given, dict) and "value" in given:
        return given["value"]
    if isinstance(given, dict):
        return torch.zeros(given["shape"], dtype=getattr(torch, given["dtype"]))
    return torch.rand(given)
