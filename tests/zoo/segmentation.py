"""FCN and DeepLabV3 on a dilated ResNet-50: heads that resize back to the input."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn
from tests.zoo.entry import image, net
from tests.zoo.resnet import dilated_backbone


@final
class Segmenter(nn.Module):
    """Backbone, head, bilinear resize to the size of the image."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.backbone(image))
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


@final
class ImagePooling(nn.Module):
    """The pooled image, projected and spread over the map again."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.project = conv_bn(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.pool(x))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


@final
class Aspp(nn.Module):
    """Atrous pyramid: a 1×1, dilated 3×3s and the pooled image, concatenated and projected."""

    def __init__(self, c_in: int, c_out: int, rates: Sequence[int]) -> None:
        super().__init__()
        dilated = [conv_bn(c_in, c_out, 3, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList([conv_bn(c_in, c_out, 1), *dilated, ImagePooling(c_in, c_out)])
        self.project = nn.Sequential(conv_bn(len(self.branches) * c_out, c_out, 1), nn.Dropout())

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], 1))


def _backbone(reduced: bool) -> tuple[nn.Sequential, int]:
    return dilated_backbone(8, (1, 2, 2, 1)) if reduced else dilated_backbone(64, (3, 4, 6, 3))


@net(image(65), image(224), tags="cnn dense residual")
def fcn_resnet50(reduced: bool) -> nn.Module:
    backbone, width = _backbone(reduced)
    classes = 5 if reduced else 21
    head = nn.Sequential(conv_bn(width, width // 4), nn.Dropout(), nn.Conv2d(width // 4, classes, 1))
    return Segmenter(backbone, head)


@net(image(65), image(224), tags="cnn dense residual concat")
def deeplabv3_resnet50(reduced: bool) -> nn.Module:
    backbone, width = _backbone(reduced)
    middle, classes = (16, 5) if reduced else (256, 21)
    rates = (2, 4, 6) if reduced else (12, 24, 36)
    head = nn.Sequential(Aspp(width, middle, rates), conv_bn(middle, middle), nn.Conv2d(middle, classes, 1))
    return Segmenter(backbone, head)
