"""DenseNet-121: each layer reads the concatenation of all before it; batch norm comes first."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import PooledLinear, conv_bn
from tests.zoo.entry import image, net


def norm_conv(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """Batch norm, ReLU, convolution."""
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU(), conv)


@final
class DenseLayer(nn.Module):
    """Adds `growth` channels to what it was given."""

    def __init__(self, c_in: int, growth: int) -> None:
        super().__init__()
        self.narrow = norm_conv(c_in, 4 * growth, 1)
        self.spread = norm_conv(4 * growth, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.spread(self.narrow(x))], 1)


@final
class DenseNet(nn.Module):
    """Dense blocks with halving transitions between them."""

    def __init__(self, first: int, growth: int, depths: Sequence[int], classes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = [conv_bn(3, first, 7, 2), nn.MaxPool2d(3, 2, 1)]
        width = first
        for number, depth in enumerate(depths):
            if number:
                parts += [norm_conv(width, width // 2, 1), nn.AvgPool2d(2)]
                width //= 2
            for _ in range(depth):
                parts.append(DenseLayer(width, growth))
                width += growth
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(width))
        self.head = PooledLinear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(F.relu(self.features(image)))


@net(image(64), image(224), tags="cnn concat", fresh=True)
def densenet121(reduced: bool) -> nn.Module:
    return DenseNet(16, 8, (2, 3, 3, 2), 10) if reduced else DenseNet(64, 32, (6, 12, 24, 16), 1000)
