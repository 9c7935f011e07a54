"""ConvNeXt-T: 7×7 depthwise convolutions, layer norm and linear layers on channels last, layer scale."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import Mlp
from tests.zoo.entry import image, net


@final
class ChannelNorm(nn.Module):
    """Layer norm over the channels of (batch, channel, height, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@final
class ConvNextBlock(nn.Module):
    """Depthwise 7×7; norm and MLP in channels-last; scaled residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.layer_scale = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x + self.layer_scale * y


@final
class ConvNext(nn.Module):
    """Patchify stem, four stages with strided convolutions between, norm after pooling."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], classes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0])]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if number:
                parts += [ChannelNorm(widths[number - 1]), nn.Conv2d(widths[number - 1], width, 2, 2)]
            parts += [ConvNextBlock(width) for _ in range(depth)]
        self.features = nn.Sequential(*parts)
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.features(image).mean((2, 3))))


@net(image(64), image(224), tags="cnn depthwise layernorm")
def convnext_tiny(reduced: bool) -> nn.Module:
    if reduced:
        return ConvNext((16, 32, 48, 64), (1, 1, 2, 1), 10)
    return ConvNext((96, 192, 384, 768), (3, 3, 9, 3), 1000)
