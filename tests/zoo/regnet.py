"""RegNet-X and RegNet-Y (400 MF): grouped bottlenecks of ratio one; Y adds squeeze-excite."""

from collections.abc import Sequence

from torch import nn

from tests.zoo.blocks import SqueezeExcite, conv_bn
from tests.zoo.entry import image, net
from tests.zoo.inception import Chain
from tests.zoo.resnet import Residual


def _block(c_in: int, c_out: int, stride: int, group: int, gated: bool) -> nn.Module:
    middle: list[nn.Module] = [
        conv_bn(c_in, c_out, 1),
        conv_bn(c_out, c_out, 3, stride, groups=c_out // group),
    ]
    if gated:
        middle.append(SqueezeExcite(c_out, round(c_in / 4)))
    same = stride == 1 and c_in == c_out
    shortcut = nn.Identity() if same else conv_bn(c_in, c_out, 1, stride, act=None)
    return Residual(nn.Sequential(*middle, conv_bn(c_out, c_out, 1, act=None)), shortcut)


def _regnet(widths: Sequence[int], depths: Sequence[int], group: int, gated: bool, classes: int) -> nn.Module:
    width = 32
    parts: list[nn.Module] = [conv_bn(3, width, 3, 2)]
    for c_out, depth in zip(widths, depths, strict=True):
        for index in range(depth):
            parts.append(_block(width, c_out, 1 if index else 2, group, gated))
            width = c_out
    return Chain(nn.Sequential(*parts), width, classes)


@net(image(64), image(224), tags="cnn residual grouped")
def regnet_x_400mf(reduced: bool) -> nn.Module:
    if reduced:
        return _regnet((16, 32, 48, 64), (1, 2, 2, 2), 8, False, 10)
    return _regnet((32, 64, 160, 400), (1, 2, 7, 12), 16, False, 1000)


@net(image(64), image(224), tags="cnn residual grouped gate")
def regnet_y_400mf(reduced: bool) -> nn.Module:
    if reduced:
        return _regnet((16, 32, 48, 64), (1, 2, 2, 2), 8, True, 10)
    return _regnet((48, 104, 208, 440), (1, 3, 6, 6), 8, True, 1000)
