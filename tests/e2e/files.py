"""Small models and data as a stranger would send them, written without the product's code."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.engine import chains

#: Names and shapes of the inputs, the same in both formats.
INPUT = "x"
ROWS = 40


class ScriptedNet(nn.Module):
    """Convolution, batch norm, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.classes = nn.Linear(8 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(torch.relu(self.norm(self.conv(x))).flatten(1))


def onnx_file(folder: Path, seed: int = 0) -> Path:
    """A VGG-style chain, input `x` of (N, 3, 8, 8), five classes."""
    return chains.vgg(folder / "small.onnx", [3, 8, 12], [16, 5], seed=seed).path


def torchscript_file(folder: Path) -> Path:
    """The like of it, scripted."""
    torch.manual_seed(0)
    path = folder / "small.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch calls TorchScript a thing of the past
        torch.jit.script(ScriptedNet().eval()).save(str(path))
    return path


def data_file(folder: Path) -> Path:
    """Rows with labels that fit both."""
    rng = np.random.default_rng(1)
    path = folder / "data.npz"
    images = rng.standard_normal((ROWS, 3, 8, 8)).astype(np.float32)
    np.savez(path, x=images, targets=rng.integers(0, 5, ROWS))
    return path
