"""U-Net: encoder and decoder joined by concatenation, transposed convolutions on the way up."""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn
from tests.zoo.entry import image, net


def double(c_in: int, c_out: int) -> nn.Module:
    """Two 3×3 convolutions."""
    return nn.Sequential(conv_bn(c_in, c_out), conv_bn(c_out, c_out))


@final
class UNet(nn.Module):
    """Four levels down by pooling, four up by transposed convolution; one logit map per class."""

    def __init__(self, first: int, classes: int, levels: int = 4) -> None:
        super().__init__()
        widths = [first << level for level in range(levels + 1)]
        self.start = double(3, first)
        self.down = nn.ModuleList(double(a, b) for a, b in pairwise(widths))
        upward = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in upward)
        self.join = nn.ModuleList(double(a, b) for a, b in upward)
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Conv2d(first, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.start(image)
        kept: list[Tensor] = []
        for down in self.down:
            kept.append(x)
            x = down(self.pool(x))
        for up, join in zip(self.up, self.join):  # noqa: B905 (TorchScript has no `strict`)
            x = join(torch.cat([kept.pop(), up(x)], 1))
        return self.out(x)


@net(image(32), image(256), tags="cnn dense concat")
def unet(reduced: bool) -> nn.Module:
    return UNet(8, 2) if reduced else UNet(64, 2)
