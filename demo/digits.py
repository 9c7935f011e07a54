"""A small convolutional network with batch norm, trained on scikit-learn's handwritten digits."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

_EPOCHS = 30
_BATCH = 64
_SEED = 0
#: Of the L1 penalty on the weights, which leaves more of them near zero than training alone would.
_PENALTY = 5e-4


@final
@dataclass(frozen=True)
class Digits:
    """Images (rows, 1, 8, 8) in 0…1 and their labels; a fifth of them is held out from training."""

    images: Tensor
    targets: Tensor
    held_out_images: Tensor
    held_out_targets: Tensor


def load() -> Digits:
    """The 1,797 digits that come with scikit-learn, split with a fixed seed, classes in proportion."""
    data = load_digits()
    images = (data.images[:, None] / 16.0).astype(np.float32)
    parts = train_test_split(
        images, data.target.astype(np.int64), test_size=0.2, random_state=_SEED, stratify=data.target
    )
    train, held_out, train_targets, held_out_targets = (torch.from_numpy(part) for part in parts)
    return Digits(train, train_targets, held_out, held_out_targets)


@final
class DigitNet(nn.Module):
    """Two convolutions with batch norm, then two linear layers: 607,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_block(1, 48), nn.MaxPool2d(2), *_block(48, 64))
        self.hidden = nn.Linear(64 * 4 * 4, 512)
        self.classes = nn.Linear(512, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (rows, 10) of images (rows, 1, 8, 8)."""
        features = self.features(image).flatten(1)
        logits: Tensor = self.classes(torch.relu(self.hidden(features)))
        return logits


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 5, padding=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def train(digits: Digits) -> DigitNet:
    """Train for some seconds with Adam and an L1 penalty; seeded, so that runs on one machine agree."""
    torch.manual_seed(_SEED)
    network = DigitNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(digits.images)).tensor_split(len(digits.images) // _BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(digits.images[rows]), digits.targets[rows])
            loss = loss + _PENALTY * torch.stack([weight.abs().sum() for weight in weights]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        decay.step()
    return network.eval()
