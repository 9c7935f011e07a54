"""ShuffleNetV2: split, a branch with a depthwise convolution, concatenation and channel shuffle."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn
from tests.zoo.entry import image, net
from tests.zoo.inception import Chain


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` equal groups."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).reshape(batch, channels, height, width)


def branch(c_in: int, c_out: int, stride: int) -> nn.Module:
    """1×1, depthwise 3×3, 1×1."""
    depthwise = conv_bn(c_out, c_out, 3, stride, groups=c_out, act=None)
    return nn.Sequential(conv_bn(c_in, c_out, 1), depthwise, conv_bn(c_out, c_out, 1))


@final
class ShuffleUnit(nn.Module):
    """Half of the channels pass, half are worked on; then all are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.worked = branch(width // 2, width // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        passed, rest = x.chunk(2, 1)
        return shuffle(torch.cat([passed, self.worked(rest)], 1), 2)


@final
class ShuffleDown(nn.Module):
    """Both branches read everything and halve the resolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        half = c_out // 2
        depthwise = conv_bn(c_in, c_in, 3, 2, groups=c_in, act=None)
        self.left = nn.Sequential(depthwise, conv_bn(c_in, half, 1))
        self.right = branch(c_in, half, 2)

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)


def _shufflenet(
    first: int, widths: Sequence[int], depths: Sequence[int], last: int, classes: int
) -> nn.Module:
    parts: list[nn.Module] = [conv_bn(3, first, 3, 2), nn.MaxPool2d(3, 2, 1)]
    width = first
    for c_out, depth in zip(widths, depths, strict=True):
        parts += [ShuffleDown(width, c_out), *(ShuffleUnit(c_out) for _ in range(depth - 1))]
        width = c_out
    return Chain(nn.Sequential(*parts, conv_bn(width, last, 1)), last, classes)


@net(image(64), image(224), tags="cnn depthwise concat")
def shufflenet_v2_x1_0(reduced: bool) -> nn.Module:
    if reduced:
        return _shufflenet(16, (24, 48, 96), (2, 3, 2), 128, 10)
    return _shufflenet(24, (116, 232, 464), (4, 8, 4), 1024, 1000)
