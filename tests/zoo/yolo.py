"""A YOLOv5s-like detector: CSP blocks, SiLU, pooling pyramid, concat and upsampling, three outputs."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn
from tests.zoo.entry import image, net


def conv(c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> nn.Module:
    """Convolution, batch norm, SiLU."""
    padding = 2 if kernel == 6 else None
    return conv_bn(c_in, c_out, kernel, stride, padding=padding, act=nn.SiLU, eps=1e-3)


@final
class Step(nn.Module):
    """1×1 then 3×3, added to the input where asked."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width, 3))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


@final
class Csp(nn.Module):
    """Two paths of half the width, one through steps, concatenated and projected."""

    def __init__(self, c_in: int, c_out: int, depth: int = 1, residual: bool = True) -> None:
        super().__init__()
        half = c_out // 2
        self.worked = nn.Sequential(conv(c_in, half), *(Step(half, residual) for _ in range(depth)))
        self.passed = conv(c_in, half)
        self.join = conv(2 * half, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.worked(x), self.passed(x)], 1))


@final
class PoolingPyramid(nn.Module):
    """The same pooling three times, all four maps concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = conv(width, width // 2)
        self.join = conv(2 * width, width)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.narrow(x)
        b = self.pool(a)
        c = self.pool(b)
        return self.join(torch.cat([a, b, c, self.pool(c)], 1))


@final
class Yolo(nn.Module):
    """Backbone to strides 8, 16, 32; top-down then bottom-up neck; three raw prediction maps."""

    def __init__(self, w: int, depths: tuple[int, int, int], predictions: int) -> None:
        super().__init__()
        to_8 = (conv(3, w, 6, 2), conv(w, 2 * w, 3, 2), Csp(2 * w, 2 * w), conv(2 * w, 4 * w, 3, 2))
        self.to_8 = nn.Sequential(*to_8, Csp(4 * w, 4 * w, depths[0]))
        self.to_16 = nn.Sequential(conv(4 * w, 8 * w, 3, 2), Csp(8 * w, 8 * w, depths[1]))
        to_32 = (conv(8 * w, 16 * w, 3, 2), Csp(16 * w, 16 * w, depths[2]), PoolingPyramid(16 * w))
        self.to_32 = nn.Sequential(*to_32)
        self.lateral_32, self.lateral_16 = conv(16 * w, 8 * w), conv(8 * w, 4 * w)
        self.top_16 = Csp(16 * w, 8 * w, residual=False)
        self.top_8 = Csp(8 * w, 4 * w, residual=False)
        self.down_8, self.down_16 = conv(4 * w, 4 * w, 3, 2), conv(8 * w, 8 * w, 3, 2)
        self.bottom_16 = Csp(8 * w, 8 * w, residual=False)
        self.bottom_32 = Csp(16 * w, 16 * w, residual=False)
        self.heads = nn.ModuleList(nn.Conv2d(width, predictions, 1) for width in (4 * w, 8 * w, 16 * w))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c8 = self.to_8(image)
        c16 = self.to_16(c8)
        p32 = self.lateral_32(self.to_32(c16))
        p16 = self.lateral_16(self.top_16(torch.cat([_double(p32), c16], 1)))
        p8 = self.top_8(torch.cat([_double(p16), c8], 1))
        n16 = self.bottom_16(torch.cat([self.down_8(p8), p16], 1))
        n32 = self.bottom_32(torch.cat([self.down_16(n16), p32], 1))
        return self.heads[0](p8), self.heads[1](n16), self.heads[2](n32)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


@net(image(64), image(320), tags="cnn detection concat multi-output")
def yolo(reduced: bool) -> nn.Module:
    return Yolo(8, (1, 1, 1), 21) if reduced else Yolo(32, (2, 3, 1), 255)
