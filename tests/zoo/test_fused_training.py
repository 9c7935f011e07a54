"""Files of fused operators as torch modules: the runtime's outputs, and gradients at every weight."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.zoo import DRAWINGS, ZOO
from tests.zoo.test_optimized import FUSED, ROUTES, fused
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.trainable import Trainable

DRAWN = sorted(name for name in DRAWINGS if name.startswith("fused_"))


def held(file: Path, feeds: dict[str, torch.Tensor]) -> Trainable:
    """The module's first output is the runtime's; gradients of it reach what the answer holds."""
    trainable = load(file, LoadOptions()).trainable()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})[0]
    made = trainable.module(*feeds.values())
    output = made if isinstance(made, torch.Tensor) else made[0]
    np.testing.assert_allclose(output.detach(), wanted, rtol=1e-3, atol=1e-4)
    output.square().mean().backward()
    return trainable


def untouched(trainable: Trainable) -> list[str | None]:
    return [
        value.name
        for value, tensor in trainable.parameters.items()
        if tensor.grad is None or not torch.isfinite(tensor.grad).all() or not tensor.grad.any()
    ]


@pytest.mark.parametrize("name", DRAWN)
def test_drawn(name: str, tmp_path: Path) -> None:
    file = DRAWINGS[name].write(tmp_path / "model.onnx")
    feeds = {key: torch.from_numpy(array) for key, array in DRAWINGS[name].feeds(seed=3).items()}
    trainable = held(file, feeds)
    assert trainable.parameters
    assert not untouched(trainable)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "operator"), FUSED)
def test_transformers(name: str, kind: str, operator: str, tmp_path: Path) -> None:
    file = fused(name, kind, *ROUTES[1], tmp_path)
    trainable = held(file, ZOO[name].inputs())
    assert len(trainable.parameters) > 10
    assert len(untouched(trainable)) <= 1  # rows of a table that no word took, a bias that softmax cancels
