"""VGG-11 with batch norm."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.entry import image, net


@final
class Vgg(nn.Module):
    """3×3 convolutions with bias and batch norm; 0 in the plan is a pooling."""

    def __init__(self, plan: tuple[int, ...], side: int, hidden: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for item in plan:
            if item == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(width, item, 3, padding=1), nn.BatchNorm2d(item), nn.ReLU()]
            width = item
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(width * side * side, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes)),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(image), 1))


@net(image(64), image(224), tags="cnn", fresh=True)
def vgg11_bn(reduced: bool) -> nn.Module:
    unit = 8 if reduced else 64
    plan = [unit * item for item in (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0)]
    return Vgg(tuple(plan), 2, 64, 10) if reduced else Vgg(tuple(plan), 7, 4096, 1000)
