"""From a zoo entry to files: ONNX by either of PyTorch's exporters, TorchScript by tracing or scripting."""

import atexit
import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.onnx import TrainingMode

from tests.zoo.entry import ZOO

Exporter = Literal["dynamo", "torchscript"]


class ExportError(Exception):
    """PyTorch could not export this network this way."""


def export(
    name: str,
    path: Path | None = None,
    *,
    exporter: Exporter = "torchscript",
    opset: int = 17,
    dynamic_batch: bool = False,
    reduced: bool = True,
    fold: bool = True,
) -> Path:
    """The ONNX file of a zoo entry, made once per process and copied to `path` (a file) when given.

    `fold=False` keeps batch norms as operators of their own; by default exporters merge them where they can.
    """
    made = _exported(name, exporter, opset, dynamic_batch, reduced, fold)
    return made if path is None else Path(shutil.copyfile(made, path))


def torchscript(name: str, path: Path | None = None, *, script: bool = False, reduced: bool = True) -> Path:
    """The TorchScript file of a zoo entry: traced, or compiled from source."""
    made = _scripted(name, script, reduced)
    return made if path is None else Path(shutil.copyfile(made, path))


def outputs(module: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Outputs in order."""
    with torch.inference_mode():
        result = module(**inputs)
    return [result] if isinstance(result, Tensor) else list(result)


@lru_cache(maxsize=4)
def _network(name: str, reduced: bool) -> nn.Module:
    return ZOO[name].make(reduced=reduced)


@lru_cache(maxsize=1)
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="zoo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _exported(name: str, exporter: Exporter, opset: int, dynamic: bool, reduced: bool, fold: bool) -> Path:
    words = (name, exporter, str(opset), "dynamic" if dynamic else "static", "small" if reduced else "full")
    path = _folder() / f"{'-'.join(words)}{'' if fold else '-unfolded'}.onnx"
    module, inputs = _network(name, reduced), ZOO[name].inputs(reduced=reduced)
    names = [f"output{number}" for number in range(len(outputs(module, inputs)))]
    options: dict[str, Any] = {"input_names": list(inputs), "output_names": names, "opset_version": opset}
    options |= (
        _by_dynamo(inputs, dynamic, fold) if exporter == "dynamo" else _by_trace(inputs, names, dynamic, fold)
    )
    with _quiet():
        try:
            torch.onnx.export(module, (), str(path), kwargs=inputs, **options)
        except Exception as error:  # the exporters raise whatever their parts raise
            raise ExportError(f"{name} by {exporter} at opset {opset}: {error}") from error
    return path


def _by_dynamo(inputs: dict[str, Tensor], dynamic: bool, fold: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"dynamo": True, "external_data": False, "optimize": fold}
    if dynamic:
        batch = torch.export.Dim("batch", min=1, max=1024)
        options["dynamic_shapes"] = {name: {0: batch} for name in inputs}
    return options


def _by_trace(inputs: dict[str, Tensor], names: list[str], dynamic: bool, fold: bool) -> dict[str, Any]:
    # PRESERVE leaves the network in eval mode and only skips the pass that merges batch norms.
    training = TrainingMode.EVAL if fold else TrainingMode.PRESERVE
    options: dict[str, Any] = {"dynamo": False, "training": training, "do_constant_folding": True}
    if dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in [*inputs, *names]}
    return options


@cache
def _scripted(name: str, script: bool, reduced: bool) -> Path:
    kind, size = "script" if script else "trace", "small" if reduced else "full"
    path = _folder() / f"{name}-{kind}-{size}.pt"
    module, inputs = _network(name, reduced), ZOO[name].inputs(reduced=reduced)
    with _quiet():
        try:
            made = (
                torch.jit.script(module) if script else torch.jit.trace(module, example_kwarg_inputs=inputs)
            )
        except Exception as error:  # as above
            raise ExportError(f"{name} to TorchScript by {kind}: {error}") from error
        made.save(str(path))
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence exporters (deprecations, tracer warnings, progress) and keep them off operators ONNX lacks."""
    level, fast = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.ERROR)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(level)
