"""An engine without any check: loads and runs the file as its runtime would. Only the sandbox stands here."""

from collections.abc import Callable
from pathlib import Path

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent
from api_schemas.jobs import ChildOrder, ChildResult


def run_order(order: ChildOrder, directory: Path, emit: Callable[[ChildEvent], None]) -> ChildResult:
    """Load and run; that it worked is reported as `needs_labels`, which nothing else here gives."""
    path = directory / order.model
    (_torchscript if path.suffix == ".pt" else _onnx)(path)
    return ChildResult(error=JobError(code=ErrorCode.NEEDS_LABELS, message="it ran to its end"))


def _torchscript(path: Path) -> None:
    import torch

    torch.jit.load(str(path))(torch.zeros(1, 4))


def _onnx(path: Path) -> None:
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session.run(None, {node.name: numpy.zeros([1, 2], numpy.float32) for node in session.get_inputs()})
