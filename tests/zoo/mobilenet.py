"""MobileNetV2 and V3: inverted residuals, depthwise convolutions, squeeze-excite, hard-swish."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import InvertedResidual, SqueezeExcite, conv_bn, divisible
from tests.zoo.entry import image, net


@final
class MobileNet(nn.Module):
    """Features, global pooling, classifier."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(image)), 1))


#: expansion, width, repeats, stride
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@net(image(64), image(224), tags="cnn depthwise", fresh=True)
def mobilenet_v2(reduced: bool) -> nn.Module:
    scale = 0.25 if reduced else 1.0
    width = divisible(32 * scale)
    parts: list[nn.Module] = [conv_bn(3, width, 3, 2, act=nn.ReLU6)]
    for expansion, wanted, repeats, stride in _V2:
        for index in range(min(repeats, 2) if reduced else repeats):
            c_out = divisible(wanted * scale)
            parts.append(InvertedResidual(width, width * expansion, c_out, 3, 1 if index else stride))
            width = c_out
    last = 128 if reduced else 1280
    parts.append(conv_bn(width, last, 1, act=nn.ReLU6))
    return MobileNet(
        nn.Sequential(*parts), nn.Sequential(nn.Dropout(), nn.Linear(last, 10 if reduced else 1000))
    )


Row = tuple[int, int, int, bool, bool, int]

#: kernel, expanded, width, squeeze-excite, hard-swish, stride
_LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def _v3(rows: Sequence[Row], hidden: int, scale: float, classes: int) -> nn.Module:
    width = divisible(16 * scale)
    parts: list[nn.Module] = [conv_bn(3, width, 3, 2, act=nn.Hardswish, eps=1e-3)]
    for kernel, wanted, out, gated, hard, stride in rows:
        expanded, c_out = divisible(wanted * scale), divisible(out * scale)
        squeezed = divisible(expanded // 4)
        gate = SqueezeExcite(expanded, squeezed, gate=nn.Hardsigmoid) if gated else None
        act = nn.Hardswish if hard else nn.ReLU
        parts.append(InvertedResidual(width, expanded, c_out, kernel, stride, act=act, gate=gate))
        width = c_out
    last = 6 * width
    parts.append(conv_bn(width, last, 1, act=nn.Hardswish, eps=1e-3))
    hidden = int(hidden * scale)
    classifier = nn.Sequential(
        nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(), nn.Linear(hidden, classes)
    )
    return MobileNet(nn.Sequential(*parts), classifier)


@net(image(64), image(224), tags="cnn depthwise gate")
def mobilenet_v3_small(reduced: bool) -> nn.Module:
    return _v3(_SMALL, 1024, 0.25, 10) if reduced else _v3(_SMALL, 1024, 1.0, 1000)


@net(image(64), image(224), tags="cnn depthwise gate")
def mobilenet_v3_large(reduced: bool) -> nn.Module:
    return _v3(_LARGE, 1280, 0.25, 10) if reduced else _v3(_LARGE, 1280, 1.0, 1000)
