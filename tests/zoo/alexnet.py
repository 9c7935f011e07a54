"""AlexNet (Krizhevsky 2014, the one-column form): convolutions with bias, flatten before linear."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.entry import image, net


@final
class AlexNet(nn.Module):
    """Five convolutions, then three linear layers over a flattened map."""

    def __init__(self, widths: tuple[int, ...], side: int, hidden: int, classes: int) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.features = nn.Sequential(
            *(nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(e * side * side, hidden), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(image), 1))


@net(image(127), image(224), tags="cnn", fresh=True)
def alexnet(reduced: bool) -> nn.Module:
    if reduced:
        return AlexNet((16, 32, 48, 40, 32), 3, 64, 10)
    return AlexNet((64, 192, 384, 256, 256), 6, 4096, 1000)
