"""HRNet-style fusion: parallel resolutions, each stage sums every branch resized to every other."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn
from tests.zoo.entry import image, net
from tests.zoo.resnet import basic


@final
class Fusion(nn.Module):
    """Branch i of the output = ReLU of the sum of all branches brought to its width and resolution."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.rows = nn.ModuleList(
            nn.ModuleList(self._path(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    @staticmethod
    def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            up = nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest")
            return nn.Sequential(conv_bn(widths[source], widths[target], 1, act=None), up)
        steps = [conv_bn(widths[source], widths[source], 3, 2) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, conv_bn(widths[source], widths[target], 3, 2, act=None))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        fused: list[Tensor] = []
        for row in self.rows:
            total = torch.zeros(1)
            for number, path in enumerate(row):
                part = path(branches[number])
                total = part if number == 0 else total + part
            fused.append(F.relu(total))
        return fused


@final
class HrNet(nn.Module):
    """Two, then three resolutions; all concatenated at the finest for one logit map per class."""

    def __init__(self, first: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [first, 2 * first, 4 * first]
        self.stem = nn.Sequential(conv_bn(3, first, 3, 2), conv_bn(first, first, 3, 2))
        self.opens = nn.ModuleList(conv_bn(a, b, 3, 2) for a, b in pairwise(widths))
        self.works = nn.ModuleList(
            nn.ModuleList(self._work(width, depth) for width in widths[:count]) for count in (2, 3)
        )
        self.fusions = nn.ModuleList(Fusion(widths[:count]) for count in (2, 3))
        self.head = nn.Sequential(conv_bn(sum(widths), sum(widths), 1), nn.Conv2d(sum(widths), classes, 1))

    @staticmethod
    def _work(width: int, depth: int) -> nn.Module:
        return nn.Sequential(*(basic(width, width, 1)[0] for _ in range(depth)))

    def forward(self, image: Tensor) -> Tensor:
        branches = [self.stem(image)]
        for opened, works, fusion in zip(self.opens, self.works, self.fusions):  # noqa: B905 (TorchScript)
            branches.append(opened(branches[-1]))
            worked: list[Tensor] = []
            for number, work in enumerate(works):
                worked.append(work(branches[number]))
            branches = fusion(worked)
        size = branches[0].shape[-2:]
        resized = [branches[0]]
        for branch in branches[1:]:
            larger = F.interpolate(branch, size=size, mode="bilinear", align_corners=False)
            resized.append(larger)
        return self.head(torch.cat(resized, 1))


@net(image(64), image(256), tags="cnn dense residual concat")
def hrnet(reduced: bool) -> nn.Module:
    return HrNet(8, 1, 5) if reduced else HrNet(32, 4, 19)
