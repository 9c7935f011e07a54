"""EfficientNet-B0: inverted residuals with SiLU and squeeze-excite."""

from torch import nn

from tests.zoo.blocks import InvertedResidual, SqueezeExcite, conv_bn, divisible
from tests.zoo.entry import image, net
from tests.zoo.mobilenet import MobileNet

#: expansion, width, repeats, stride, kernel
_B0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


@net(image(64), image(224), tags="cnn depthwise gate")
def efficientnet_b0(reduced: bool) -> nn.Module:
    scale = 0.25 if reduced else 1.0
    width = divisible(32 * scale)
    parts: list[nn.Module] = [conv_bn(3, width, 3, 2, act=nn.SiLU)]
    for expansion, wanted, repeats, stride, kernel in _B0:
        for index in range(min(repeats, 2) if reduced else repeats):
            hidden, c_out = width * expansion, divisible(wanted * scale)
            gate = SqueezeExcite(hidden, max(1, width // 4), act=nn.SiLU)
            step = 1 if index else stride
            parts.append(InvertedResidual(width, hidden, c_out, kernel, step, act=nn.SiLU, gate=gate))
            width = c_out
    last = 128 if reduced else 1280
    parts.append(conv_bn(width, last, 1, act=nn.SiLU))
    return MobileNet(
        nn.Sequential(*parts), nn.Sequential(nn.Dropout(), nn.Linear(last, 10 if reduced else 1000))
    )
