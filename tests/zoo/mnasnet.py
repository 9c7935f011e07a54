"""MNASNet 1.0: a separable stem, then inverted residuals of two kernel sizes."""

from torch import nn

from tests.zoo.blocks import InvertedResidual, conv_bn, divisible
from tests.zoo.entry import image, net
from tests.zoo.mobilenet import MobileNet

#: width, kernel, stride, expansion, repeats
_STACKS = (
    (24, 3, 2, 3, 3),
    (40, 5, 2, 3, 3),
    (80, 5, 2, 6, 3),
    (96, 3, 1, 6, 2),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)


@net(image(64), image(224), tags="cnn depthwise")
def mnasnet1_0(reduced: bool) -> nn.Module:
    scale = 0.25 if reduced else 1.0
    first, width = divisible(32 * scale), divisible(16 * scale)
    parts: list[nn.Module] = [conv_bn(3, first, 3, 2), conv_bn(first, first, groups=first)]
    parts.append(conv_bn(first, width, 1, act=None))
    for wanted, kernel, stride, expansion, repeats in _STACKS:
        for index in range(min(repeats, 2) if reduced else repeats):
            c_out = divisible(wanted * scale)
            step = 1 if index else stride
            parts.append(InvertedResidual(width, width * expansion, c_out, kernel, step, act=nn.ReLU))
            width = c_out
    last = 128 if reduced else 1280
    parts.append(conv_bn(width, last, 1))
    return MobileNet(
        nn.Sequential(*parts), nn.Sequential(nn.Dropout(), nn.Linear(last, 10 if reduced else 1000))
    )
