"""The graph of a TorchScript module, by torch's own ONNX exporter without any folding."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
import torch

from worker.engine.errors import InvalidModelError
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.torch_module import first_line

#: LayerNormalization is one operator from 17 on; from 18 on the exporter splits what was one.
_OPSET = 17
#: aten::_cast_<name> of early archives, which the exporter knows no more -> ONNX element type.
_CASTS = {
    "Byte": onnx.TensorProto.UINT8,
    "Char": onnx.TensorProto.INT8,
    "Double": onnx.TensorProto.DOUBLE,
    "Float": onnx.TensorProto.FLOAT,
    "Half": onnx.TensorProto.FLOAT16,
    "Int": onnx.TensorProto.INT32,
    "Long": onnx.TensorProto.INT64,
    "Short": onnx.TensorProto.INT16,
}


def export(module: torch.jit.ScriptModule, examples: Sequence[Any], names: Sequence[str]) -> onnx.ModelProto:
    """The graph with parameters as initializers. Raises `InvalidModelError` with the exporter's reason."""
    _know_old_casts()
    buffer = io.BytesIO()
    try:
        with _silence():
            torch.onnx.export(
                module,
                tuple(examples),
                buffer,  # type: ignore[arg-type]  # the TorchScript exporter takes streams
                dynamo=False,
                opset_version=_OPSET,
                do_constant_folding=False,
                keep_initializers_as_inputs=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                input_names=list(names),
            )
    except Exception as error:  # the exporter runs the file's code and raises many kinds of its own
        raise_if_memory(error)
        raise InvalidModelError(_reason(error)) from None
    return onnx.load_from_string(buffer.getvalue())


def _reason(error: Exception) -> str:
    """The exporter's first sentence; what follows is a dump of the graph."""
    return first_line(error).split("  [Caused by")[0].split(". Please")[0][:200]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter prints whole graphs from C++ and warns of its own age; neither is news to a user."""
    logger, log = logging.getLogger("torch.onnx"), torch._C._jit_onnx_log
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    torch._C._jit_onnx_log = lambda *_: None  # the switch for it has no effect in torch 2.13
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch._C._jit_onnx_log = log
        logger.setLevel(level)


def _know_old_casts() -> None:
    for name, kind in _CASTS.items():
        torch.onnx.utils.register_custom_op_symbolic(f"aten::_cast_{name}", _cast_to(kind), 9)


def _cast_to(kind: int) -> Any:
    def cast(graph: Any, value: Any, _non_blocking: Any) -> Any:
        return graph.op("Cast", value, to_i=kind)

    return cast
