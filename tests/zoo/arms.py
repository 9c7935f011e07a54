"""Networks with several inputs or outputs."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import PooledLinear, conv_bn
from tests.zoo.entry import Sample, net


def _tower(w: int, c_in: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(c_in, w, 3, 2), conv_bn(w, 2 * w, 3, 2))


@final
class TwoInputs(nn.Module):
    """An image and a table of features, joined before the classifier."""

    def __init__(self, w: int, classes: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(_tower(w, 3), PooledLinear(2 * w, 2 * w))
        self.table = nn.Sequential(nn.Linear(6, w), nn.ReLU(), nn.Linear(w, 2 * w))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(4 * w, w), nn.ReLU(), nn.Linear(w, classes))

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        return self.head(torch.cat([self.tower(image), self.table(table)], 1))


@final
class Siamese(nn.Module):
    """Two images through the same tower; the absolute difference is judged."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(_tower(w, 3), PooledLinear(2 * w, 2 * w))
        self.head = nn.Linear(2 * w, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.sigmoid(self.head((self.tower(left) - self.tower(right)).abs()))


@final
class ManyOutputs(nn.Module):
    """A class, a box, and the inner map itself, from one trunk."""

    def __init__(self, w: int, classes: int) -> None:
        super().__init__()
        self.trunk = _tower(w, 3)
        self.more = conv_bn(2 * w, 4 * w)
        self.label = PooledLinear(4 * w, classes)
        self.box = nn.Sequential(conv_bn(4 * w, w, 1), PooledLinear(w, 4))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inner = self.trunk(image)
        x = self.more(inner)
        return self.label(x), torch.sigmoid(self.box(x)), inner


_PICTURE = Sample((3, 32, 32))


@net({"image": _PICTURE, "table": Sample((6,))}, tags="multi-input")
def two_inputs(reduced: bool) -> nn.Module:
    return TwoInputs(8 if reduced else 64, 5)


@net({"left": _PICTURE, "right": _PICTURE}, tags="multi-input shared")
def siamese(reduced: bool) -> nn.Module:
    return Siamese(8 if reduced else 64)


@net({"image": _PICTURE}, tags="multi-output")
def many_outputs(reduced: bool) -> nn.Module:
    return ManyOutputs(8 if reduced else 64, 5)
