"""ESPCN: super-resolution by a pixel shuffle at the end."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.entry import image, net


@final
class Espcn(nn.Module):
    """Convolutions at low resolution, then channels become pixels."""

    def __init__(self, first: int, factor: int, inside: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, first, 5, padding=2), nn.Tanh())
        middle = first // 2
        self.middle = nn.Sequential(nn.Conv2d(first, middle, 3, padding=1), nn.Tanh())
        if inside:  # a second shuffle whose channels are not the output's
            self.middle.append(nn.PixelShuffle(2))
            middle //= 4
        self.out = nn.Sequential(nn.Conv2d(middle, factor * factor, 3, padding=1), nn.PixelShuffle(factor))

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.middle(self.features(image))))


@net(image(16, 1), image(128, 1), tags="cnn dense")
def espcn(reduced: bool) -> nn.Module:
    return Espcn(16 if reduced else 64, 3, inside=False)


@net(image(16, 1), image(128, 1), tags="cnn dense")
def espcn_twice(reduced: bool) -> nn.Module:
    return Espcn(32 if reduced else 64, 3, inside=True)
