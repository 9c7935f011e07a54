"""SqueezeNet 1.1: fire modules, no linear layer."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.entry import image, net


@final
class Fire(nn.Module):
    """Squeeze by 1×1, expand by 1×1 and 3×3 side by side."""

    def __init__(self, c_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(c_in, squeezed, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


@final
class SqueezeNet(nn.Module):
    """The classifier is a 1×1 convolution, pooled last."""

    def __init__(self, unit: int, classes: int) -> None:
        super().__init__()
        u = unit
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 4 * u, 3, 2), nn.ReLU(), pool),
            *(Fire(4 * u, u, 4 * u), Fire(8 * u, u, 4 * u), pool),
            *(Fire(8 * u, 2 * u, 8 * u), Fire(16 * u, 2 * u, 8 * u), pool),
            *(Fire(16 * u, 3 * u, 12 * u), Fire(24 * u, 3 * u, 12 * u)),
            *(Fire(24 * u, 4 * u, 16 * u), Fire(32 * u, 4 * u, 16 * u)),
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(32 * u, classes, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, image: Tensor) -> Tensor:
        return torch.flatten(self.pool(self.classifier(self.features(image))), 1)


@net(image(64), image(224), tags="cnn concat")
def squeezenet1_1(reduced: bool) -> nn.Module:
    return SqueezeNet(4, 10) if reduced else SqueezeNet(16, 1000)
