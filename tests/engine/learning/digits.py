"""scikit-learn's handwritten digits, and small networks trained on them, as files."""

import functools
import io
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

TRAINING_ROWS = 1400


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images (1, 8, 8) between 0 and 1, and their labels."""
    found = load_digits()
    return (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64)


def convolutional() -> nn.Module:
    """Two convolutions with batch norm, and a linear layer."""
    blocks = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    blocks += [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(32 * 16, 10))


def perceptron() -> nn.Module:
    """Three linear layers."""
    layers = [nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)]
    return nn.Sequential(*layers)


@functools.cache
def _weights(make: object) -> dict[str, torch.Tensor]:
    images, labels = (torch.from_numpy(array[:TRAINING_ROWS]) for array in digits())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make()
        optimiser = torch.optim.Adam(module.parameters(), 2e-3)
        for _ in range(12):
            for rows in torch.randperm(TRAINING_ROWS).split(64):
                optimiser.zero_grad()
                F.cross_entropy(module(images[rows]), labels[rows]).backward()
                optimiser.step()
    return module.state_dict()


def trained(make=convolutional) -> nn.Module:
    """A network that knows the digits; trained once, copied for every caller."""
    module = make()
    module.load_state_dict(_weights(make))
    return module.eval()


def as_torchscript(module: nn.Module, path: Path, *, traced: bool = False) -> Path:
    """The module scripted, or traced with one row."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        rows = torch.zeros(1, 1, 8, 8)
        made = torch.jit.trace(module, rows) if traced else torch.jit.script(module)
        torch.jit.save(made, buffer)
    path.write_bytes(buffer.getvalue())
    return path


def as_onnx(module: nn.Module, path: Path, *, batch: int | None = None) -> Path:
    """The module exported, with a free batch or one of that size."""
    free = {"input": {0: "n"}, "output": {0: "n"}} if batch is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.zeros(batch or 2, 1, 8, 8),),
            str(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=free,
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return path


def rows_file(path: Path, rows: slice, *, labels: bool = True) -> Path:
    """Rows as .npz."""
    images, targets = digits()
    arrays = {"input": images[rows]} | ({"targets": targets[rows]} if labels else {})
    np.savez(path, **arrays)
    return path


def accuracy(module: nn.Module, rows: slice = slice(TRAINING_ROWS, None)) -> float:
    """Share of right answers."""
    images, labels = (torch.from_numpy(array[rows]) for array in digits())
    with torch.no_grad():
        return float((module(images).argmax(1) == labels).float().mean())
