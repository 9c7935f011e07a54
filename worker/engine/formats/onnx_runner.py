"""Runs an ONNX file in ONNX Runtime, as its user would."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import onnxruntime as ort

from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.base import Array, Runner
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.onnx_session import open_session

_FATAL_ONLY = 4
_UNKNOWN = re.compile(r"(\S+:\w+)\(-?\d+\) is not a registered function/op")
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


@final
class OnnxRunner(Runner):
    """An inference session on `path`, whose external data was checked before."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, device: str, threads: int) -> None:
        self.threads = threads
        providers, self.device = _providers(device)
        try:
            self._session, read_as = open_session(path, _quiet(threads), providers)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise_if_memory(error)
            raise _refused(error) from None
        if read_as is not None:
            self.remark = (
                f"read as ONNX IR version {read_as}, the newest that ONNX Runtime {ort.__version__} knows"
            )
        self.input_names = tuple(info.name for info in self._session.get_inputs())
        self.output_names = tuple(info.name for info in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs in order; a sequence output is laid out as its elements."""
        try:
            outputs = self._session.run(None, {name: np.asarray(feeds[name]) for name in self.input_names})
        except KeyError as error:
            raise ModelNotRunnableError(f"no data for input {error.args[0]!r}") from None
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise_if_memory(error)
            raise ModelNotRunnableError(f"ONNX Runtime fails on the model: {shortened(error)}") from None
        return _flattened(outputs)


def _refused(error: Exception) -> ModelNotRunnableError:
    unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        return ModelNotRunnableError(f"ONNX Runtime refuses the model: {shortened(error)}")
    return ModelNotRunnableError(
        f"ONNX Runtime has no operator {unknown.group(1)}",
        hint="no library of further operators is loaded here: upload the network without what uses them, "
        "pre- and post-processing say",
    )


def _quiet(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.use_deterministic_compute = True
    return options


def _providers(device: str) -> tuple[list[Any], str]:
    """Execution providers and the device they mean; CPU where this ONNX Runtime has no CUDA."""
    if device.startswith("cuda") and "CUDAExecutionProvider" in ort.get_available_providers():
        number = int(device.partition(":")[2] or 0)
        return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"], device
    return ["CPUExecutionProvider"], "cpu"


def _flattened(outputs: Sequence[Any]) -> list[Array]:
    arrays: list[Array] = []
    for output in outputs:
        if isinstance(output, list):
            arrays.extend(_flattened(output))
        elif isinstance(output, dict):
            arrays.append(np.asarray(list(output.values())))
        elif output is not None:
            arrays.append(np.asarray(output))
    return arrays


def shortened(error: Exception) -> str:
    """ONNX Runtime's message without its prefix and the file's path, on one line."""
    text = _PREFIX.sub("", " ".join(str(error).split()))
    return text.rpartition("failed:")[2].strip()[:300]
