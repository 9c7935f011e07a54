"""Tiny networks: kinds of convolution, gates, shuffles and resizing."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import InvertedResidual, SqueezeExcite, conv_bn
from tests.zoo.entry import case
from tests.zoo.shufflenet import shuffle


class Pipeline(nn.Module):
    """Parts in a row over one image; only for the cases here that need no more."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, image: Tensor) -> Tensor:
        return self.parts(image)


def conv(c_in: int, c_out: int, kernel: int = 3, groups: int = 1) -> nn.Module:
    """Convolution with bias, same size, ReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups), nn.ReLU())


@final
@case(image=(4, 8, 8))
class GroupConvolution(Pipeline):
    """Groups between dense convolutions, unequal in and out per group."""

    def __init__(self) -> None:
        super().__init__(conv(4, 16), conv(16, 24, groups=4), nn.Conv2d(24, 6, 1))


@final
@case(image=(4, 8, 8))
class GroupChain(Pipeline):
    """Grouped after grouped, with different group counts."""

    def __init__(self) -> None:
        super().__init__(conv(4, 24), conv(24, 24, groups=4), conv(24, 24, groups=3), nn.Conv2d(24, 6, 1))


@final
@case(image=(4, 8, 8))
class DepthwiseChain(Pipeline):
    """Depthwise after depthwise."""

    def __init__(self) -> None:
        super().__init__(conv(4, 16, 1), conv(16, 16, groups=16), conv(16, 16, 5, 16), nn.Conv2d(16, 6, 1))


@final
@case(image=(4, 8, 8))
class DepthwiseFirst(Pipeline):
    """Depthwise over the image itself: nothing before it can shrink."""

    def __init__(self) -> None:
        super().__init__(conv(4, 4, groups=4), conv(4, 12, 1), nn.Conv2d(12, 6, 1))


@final
@case(image=(4, 8, 8))
class DepthwiseMultiplier(Pipeline):
    """Each input channel gives three output channels."""

    def __init__(self) -> None:
        super().__init__(conv(4, 8), conv(8, 24, groups=8), nn.Conv2d(24, 6, 1))


@final
@case(image=(4, 8, 8))
class TransposedConvolution(Pipeline):
    """Dense, grouped and depthwise transposed convolutions."""

    def __init__(self) -> None:
        dense = nn.ConvTranspose2d(12, 16, 4, 2, 1)
        grouped = nn.ConvTranspose2d(16, 8, 3, 1, 1, groups=2)
        depthwise = nn.ConvTranspose2d(8, 8, 2, 2, groups=8)
        super().__init__(conv(4, 12), dense, nn.ReLU(), grouped, nn.ReLU(), depthwise, nn.Conv2d(8, 6, 1))


@final
@case(signal=(4, 32))
class Convolution1d(nn.Module):
    """1-D convolutions, pooling, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        first = (nn.Conv1d(4, 12, 5, padding=2), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2))
        self.body = nn.Sequential(*first, nn.ConvTranspose1d(12, 8, 2, 2), nn.ReLU(), nn.Conv1d(8, 6, 1))

    def forward(self, signal: Tensor) -> Tensor:
        return self.body(signal)


@final
@case(volume=(2, 6, 6, 6))
class Convolution3d(nn.Module):
    """3-D convolutions, dense and depthwise, with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        first = (nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU())
        second = (nn.Conv3d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.AvgPool3d(2))
        self.body = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(8 * 27, 6))

    def forward(self, volume: Tensor) -> Tensor:
        return self.body(volume)


@final
@case(image=(4, 8, 8))
class SingleChannel(Pipeline):
    """A layer with one output channel in the middle: it can only stay."""

    def __init__(self) -> None:
        super().__init__(conv(4, 8), conv(8, 1), conv(1, 8), nn.Conv2d(8, 1, 1))


@final
@case(image=(4, 8, 8))
class InvertedResiduals(Pipeline):
    """Two in a row: their outputs are one group."""

    def __init__(self) -> None:
        first, second = InvertedResidual(8, 24, 8), InvertedResidual(8, 32, 8)
        super().__init__(conv_bn(4, 8), first, second, nn.Conv2d(8, 6, 1))


@final
@case(image=(4, 8, 8))
class ShuffleDepthwise(nn.Module):
    """Grouped 1×1, shuffle, depthwise, grouped 1×1, residual: the unit of ShuffleNet v1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_bn(4, 24)
        self.narrow = conv_bn(24, 12, 1, groups=3)
        self.depthwise = conv_bn(12, 12, 3, groups=12, act=None)
        self.widen = conv_bn(12, 24, 1, groups=3, act=None)
        self.out = nn.Conv2d(24, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = self.widen(self.depthwise(shuffle(self.narrow(x), 3)))
        return self.out(F.relu(x + y))


@final
@case(image=(4, 8, 8))
class GateByPooling(Pipeline):
    """Squeeze-excite with 1×1 convolutions."""

    def __init__(self) -> None:
        super().__init__(conv(4, 16), SqueezeExcite(16, 4), nn.Conv2d(16, 6, 1))


@final
@case(image=(4, 8, 8))
class GateByLinear(nn.Module):
    """Squeeze-excite with a mean, linear layers and a view back to four axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 16)
        self.gate = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())
        self.out = nn.Conv2d(16, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        weights = self.gate(x.mean((2, 3)))
        return self.out(x * weights.view(x.shape[0], 16, 1, 1))


@final
@case(image=(4, 8, 8))
class GateByReshape(nn.Module):
    """Squeeze-excite where the pooled map is reshaped by its own size and unsqueezed back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 16)
        self.gate = nn.Sequential(nn.Linear(16, 16), nn.Hardsigmoid())
        self.out = nn.Conv2d(16, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        pooled = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], x.shape[1])
        return self.out(x * self.gate(pooled)[:, :, None, None])


@final
@case(image=(4, 8, 8))
class PadChannels(nn.Module):
    """ResNet-A shortcut: stride by slicing, new channels are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_bn(4, 8)
        self.body = nn.Sequential(conv_bn(8, 16, 3, 2), conv_bn(16, 16, act=None))
        self.out = nn.Conv2d(16, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.out(F.relu(self.body(x) + shortcut))


@final
@case(image=(4, 8, 8))
class PadSpace(Pipeline):
    """Zero, reflected and replicated borders: the channels are untouched."""

    def __init__(self) -> None:
        first, second = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3)
        pads = (nn.ZeroPad2d(1), nn.ReflectionPad2d(2), nn.ReplicationPad2d((1, 0, 0, 1)))
        super().__init__(pads[0], first, nn.ReLU(), pads[1], second, nn.ReLU(), pads[2], nn.Conv2d(8, 6, 1))


@final
@case(image=(4, 8, 8))
class ResizeBySize(nn.Module):
    """A map resized to the size of another, and to given sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 8)
        self.down = nn.Sequential(nn.MaxPool2d(2), conv(8, 8))
        self.out = nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = F.interpolate(self.down(x), size=x.shape[-2:], mode="nearest")
        return self.out(F.interpolate(x + y, size=(5, 7), mode="bilinear", align_corners=False))


@final
@case(image=(4, 8, 8))
class PixelUnshuffle(nn.Module):
    """Space to channels, then channels to space."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 8)
        self.middle = conv(32, 16)
        self.out = nn.Conv2d(4, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.middle(F.pixel_unshuffle(self.first(image), 2))
        return self.out(F.pixel_shuffle(x, 2))


@final
@case(image=(4, 8, 8))
class SharedConvolution(nn.Module):
    """One convolution called three times, its own output fed back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 8)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        for _ in range(3):
            x = F.relu(self.again(x))
        return self.out(x)


@final
@case(image=(4, 8, 8))
class SharedHead(nn.Module):
    """One head on two levels, as detectors share theirs; both results are outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(4, 12), conv_bn(12, 12, 3, 2)
        self.head = nn.Sequential(conv(12, 8), nn.Conv2d(8, 6, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(image)
        return self.head(fine), self.head(self.coarse(fine))


@final
@case(image=(4, 8, 8))
class SharedWeightOtherPlace(nn.Module):
    """Two convolutions with one weight tensor but biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 8)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.right.weight = self.left.weight
        self.out = nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.out(F.relu(self.left(x)) + torch.tanh(self.right(x)))
