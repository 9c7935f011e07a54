"""ResNet with basic and bottleneck blocks, its grouped and wide variants, and a dilated backbone."""

from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import PooledLinear, conv_bn
from tests.zoo.entry import image, net


@final
class Residual(nn.Module):
    """A body plus its shortcut (projected where the shape changes), then ReLU."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def basic(c_in: int, planes: int, stride: int) -> tuple[Residual, int]:
    """Two 3×3 convolutions; also the width it gives."""
    body = nn.Sequential(conv_bn(c_in, planes, 3, stride), conv_bn(planes, planes, act=None))
    return Residual(body, _shortcut(c_in, planes, stride)), planes


def bottleneck(
    c_in: int, planes: int, stride: int, *, groups: int = 1, inner: float = 1.0, dilation: int = 1
) -> tuple[Residual, int]:
    """1×1, 3×3 (grouped, dilated), 1×1 at four times the planes; also the width it gives."""
    middle, c_out = int(planes * inner), 4 * planes
    body = nn.Sequential(
        conv_bn(c_in, middle, 1),
        conv_bn(middle, middle, 3, stride, groups=groups, dilation=dilation),
        conv_bn(middle, c_out, 1, act=None),
    )
    return Residual(body, _shortcut(c_in, c_out, stride)), c_out


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return conv_bn(c_in, c_out, 1, stride, act=None)


def stem(planes: int) -> nn.Sequential:
    """7×7 convolution and pooling: a quarter of the resolution."""
    return nn.Sequential(conv_bn(3, planes, 7, 2), nn.MaxPool2d(3, 2, 1))


@final
class ResNet(nn.Module):
    """Stem, four stages, pooled classifier."""

    def __init__(self, stages: nn.Module, planes: int, width: int, classes: int) -> None:
        super().__init__()
        self.stem = stem(planes)
        self.stages = stages
        self.head = PooledLinear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(image)))


def _bottlenecks(planes: int, depths: Sequence[int], groups: int, inner: float) -> tuple[nn.Module, int]:
    stages: list[nn.Module] = []
    width = planes
    for number, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if number and not index else 1
            block, width = bottleneck(width, planes << number, stride, groups=groups, inner=inner)
            stages.append(block)
    return nn.Sequential(*stages), width


def _bottleneck_net(reduced: bool, groups: int = 1, inner: float = 1.0) -> nn.Module:
    planes = 8 if reduced else 64
    stages, width = _bottlenecks(planes, (2, 2, 2, 2) if reduced else (3, 4, 6, 3), groups, inner)
    return ResNet(stages, planes, width, 10 if reduced else 1000)


@net(image(64), image(224), tags="cnn residual", fresh=True)
def resnet18(reduced: bool) -> nn.Module:
    planes = width = 8 if reduced else 64
    stages: list[nn.Module] = []
    for number in range(4):
        for index in range(2):
            block, width = basic(width, planes << number, 2 if number and not index else 1)
            stages.append(block)
    return ResNet(nn.Sequential(*stages), planes, width, 10 if reduced else 1000)


@net(image(64), image(224), tags="cnn residual", fresh=True)
def resnet50(reduced: bool) -> nn.Module:
    return _bottleneck_net(reduced)


@net(image(64), image(224), tags="cnn residual grouped")
def resnext50(reduced: bool) -> nn.Module:
    return _bottleneck_net(reduced, groups=4 if reduced else 32, inner=2.0)


@net(image(64), image(224), tags="cnn residual")
def wide_resnet50_2(reduced: bool) -> nn.Module:
    return _bottleneck_net(reduced, inner=2.0)


def dilated_backbone(planes: int, depths: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Bottleneck stages at an eighth of the resolution: dilation in place of the last two strides."""
    parts: list[nn.Module] = [stem(planes)]
    width = planes
    for number, depth in enumerate(depths):
        for index in range(depth):
            # The first block of a dilated stage still uses the dilation of the stage before.
            dilation = (1, 1, 2, 4)[number] if index else (1, 1, 1, 2)[number]
            stride = 2 if number == 1 and not index else 1
            block, width = bottleneck(width, planes << number, stride, dilation=dilation)
            parts.append(block)
    return nn.Sequential(*parts), width
