"""GoogLeNet (with batch norm) and Inception v3: parallel branches joined by concatenation."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import PooledLinear, conv_bn
from tests.zoo.entry import image, net


@final
class Branches(nn.Module):
    """Every branch reads the same input; the outputs are concatenated along channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


@final
class Chain(nn.Module):
    """Pooling in front of a classifier."""

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = PooledLinear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))


def unit(
    c_in: int, c_out: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True
) -> nn.Module:
    """Convolution, batch norm (ε = 0.001), ReLU."""
    return conv_bn(c_in, c_out, kernel, stride, padding=None if pad else 0, eps=1e-3)


#: 1×1, 3×3 reduce, 3×3, second 3×3 reduce, second 3×3, pooled projection; None halves the resolution.
_GOOGLENET = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def _mixed(c_in: int, a: int, b1: int, b2: int, c1: int, c2: int, d: int) -> nn.Module:
    return Branches(
        unit(c_in, a, 1),
        nn.Sequential(unit(c_in, b1, 1), unit(b1, b2, 3)),
        nn.Sequential(unit(c_in, c1, 1), unit(c1, c2, 3)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(c_in, d, 1)),
    )


@net(image(64), image(224), tags="cnn concat")
def googlenet(reduced: bool) -> nn.Module:
    less = 8 if reduced else 1
    first, second = 64 // less, 192 // less
    pool = nn.MaxPool2d(3, 2, 1)
    parts = [unit(3, first, 7, 2), pool, unit(first, first, 1), unit(first, second, 3), pool]
    width = second
    for row in _GOOGLENET:
        if row is None:
            parts.append(nn.MaxPool2d(3, 2, 1))
            continue
        a, b1, b2, c1, c2, d = (item // less for item in row)
        parts.append(_mixed(width, a, b1, b2, c1, c2, d))
        width = a + b2 + c2 + d
    return Chain(nn.Sequential(*parts), width, 10 if reduced else 1000)


def _pooled(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), unit(c_in, c_out, 1))


def _a(c_in: int, w: int, pooled: int) -> nn.Module:
    """35×35: 1×1, 5×5, two 3×3, pooled."""
    return Branches(
        unit(c_in, 4 * w, 1),
        nn.Sequential(unit(c_in, 3 * w, 1), unit(3 * w, 4 * w, 5)),
        nn.Sequential(unit(c_in, 4 * w, 1), unit(4 * w, 6 * w, 3), unit(6 * w, 6 * w, 3)),
        _pooled(c_in, pooled),
    )


def _b(c_in: int, w: int) -> nn.Module:
    """To 17×17."""
    tower = (unit(c_in, 4 * w, 1), unit(4 * w, 6 * w, 3), unit(6 * w, 6 * w, 3, 2, False))
    return Branches(unit(c_in, 24 * w, 3, 2, False), nn.Sequential(*tower), nn.MaxPool2d(3, 2))


def _c(c_in: int, w: int, mid: int) -> nn.Module:
    """17×17 with 1×7 and 7×1."""
    wide, tall, out = (1, 7), (7, 1), 12 * w
    once = (unit(c_in, mid, 1), unit(mid, mid, wide), unit(mid, out, tall))
    twice = (unit(c_in, mid, 1), unit(mid, mid, tall), unit(mid, mid, wide), unit(mid, mid, tall))
    return Branches(
        unit(c_in, out, 1),
        nn.Sequential(*once),
        nn.Sequential(*twice, unit(mid, out, wide)),
        _pooled(c_in, out),
    )


def _d(c_in: int, w: int) -> nn.Module:
    """To 8×8."""
    mid = 12 * w
    short = (unit(c_in, mid, 1), unit(mid, 20 * w, 3, 2, False))
    tower = (unit(c_in, mid, 1), unit(mid, mid, (1, 7)), unit(mid, mid, (7, 1)), unit(mid, mid, 3, 2, False))
    return Branches(nn.Sequential(*short), nn.Sequential(*tower), nn.MaxPool2d(3, 2))


def _e(c_in: int, w: int) -> nn.Module:
    """8×8: branches that fork again."""
    out = 24 * w

    def fork() -> nn.Module:
        return Branches(unit(out, out, (1, 3)), unit(out, out, (3, 1)))

    return Branches(
        unit(c_in, 20 * w, 1),
        nn.Sequential(unit(c_in, out, 1), fork()),
        nn.Sequential(unit(c_in, 28 * w, 1), unit(28 * w, out, 3), fork()),
        _pooled(c_in, 12 * w),
    )


@net(image(107), image(299), tags="cnn concat")
def inception_v3(reduced: bool) -> nn.Module:
    w = 2 if reduced else 16
    stem = (unit(3, 2 * w, 3, 2, False), unit(2 * w, 2 * w, 3, 1, False), unit(2 * w, 4 * w, 3))
    more = (nn.MaxPool2d(3, 2), unit(4 * w, 5 * w, 1), unit(5 * w, 12 * w, 3, 1, False), nn.MaxPool2d(3, 2))
    parts = [*stem, *more, _a(12 * w, w, 2 * w), _a(16 * w, w, 4 * w), _a(18 * w, w, 4 * w), _b(18 * w, w)]
    middles = (8 * w, 12 * w) if reduced else (8 * w, 10 * w, 10 * w, 12 * w)
    parts += [_c(48 * w, w, middle) for middle in middles]
    parts += [_d(48 * w, w), _e(80 * w, w), _e(128 * w, w)]
    return Chain(nn.Sequential(*parts), 128 * w, 10 if reduced else 1000)
