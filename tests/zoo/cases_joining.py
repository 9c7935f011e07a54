"""Tiny networks: residuals, element-wise combinations, concatenation, splitting, slicing, gathering."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn
from tests.zoo.cases_convolution import conv
from tests.zoo.entry import case


@final
@case(image=(4, 8, 8))
class ResidualChain(nn.Module):
    """Three additions on one stream: four producers in one group."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_bn(4, 12)
        self.bodies = nn.ModuleList(nn.Sequential(conv_bn(12, w), nn.Conv2d(w, 12, 1)) for w in (8, 16, 20))
        self.out = nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        for body in self.bodies:
            x = F.relu(x + body(x))
        return self.out(x)


@final
@case(image=(4, 8, 8))
class ResidualFromInput(nn.Module):
    """The image itself is added: the branch may not lose channels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(4, 16), nn.Conv2d(16, 4, 1))
        self.out = nn.Conv2d(4, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(image + self.body(image))


@final
@case(image=(4, 8, 8))
class Elementwise(nn.Module):
    """Sum, product, difference, maximum, minimum and quotient of branches."""

    def __init__(self) -> None:
        super().__init__()
        self.arms = nn.ModuleList(nn.Conv2d(4, 10, 3, padding=1) for _ in range(6))
        self.out = nn.Conv2d(10, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        a, b, c, d, e, f = [arm(image) for arm in self.arms]
        x = torch.maximum(a + b, c * d)
        return self.out(torch.minimum(x - e, e) / (1.0 + f.abs()))


@final
@case(image=(4, 8, 8))
class BroadcastChannel(nn.Module):
    """A one-channel map weighs every channel; a pooled vector is added to every place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention, self.vector = conv(4, 12), nn.Conv2d(12, 1, 1), nn.Conv2d(12, 12, 1)
        self.out = nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = x * torch.sigmoid(self.attention(x))
        return self.out(y + self.vector(F.adaptive_avg_pool2d(x, 1)))


@final
@case(image=(4, 8, 8))
class ConcatCascade(nn.Module):
    """Concatenations of concatenations, one part twice, batch norm over all."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(4, 6), conv(6, 8), conv(14, 10)
        self.norm = nn.BatchNorm2d(30)
        self.out = nn.Conv2d(30, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.a(image)
        inner = torch.cat([a, self.b(a)], 1)
        return self.out(F.relu(self.norm(torch.cat([inner, self.c(inner), a], 1))))


@final
@case(image=(4, 8, 8))
class ConcatWithInput(nn.Module):
    """The image is part of the concatenation; its channels stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(4, 8), conv(12, 10)
        self.out = nn.Conv2d(10, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.second(torch.cat([image, self.first(image)], 1)))


@final
@case(image=(4, 8, 8))
class ConcatAddedTo(nn.Module):
    """A concatenation added to one wide layer: pieces of a group with different producers."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.wide = conv(4, 6), conv(4, 10), conv(4, 16)
        self.out = nn.Conv2d(16, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(torch.cat([self.left(image), self.right(image)], 1) + self.wide(image))


@final
@case(image=(4, 8, 8))
class ConcatInSpace(nn.Module):
    """Concatenation along rows: both producers keep the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.bottom, self.out = conv(4, 12), conv(4, 12), nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(torch.cat([self.top(image), self.bottom(image)], 2))


@final
@case(image=(4, 8, 8))
class ConcatBeforeLinear(nn.Module):
    """Flattened maps of different sizes side by side into one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv_bn(4, 6, 3, 2), nn.Sequential(conv_bn(4, 10, 3, 2), nn.MaxPool2d(2))
        self.hidden, self.out = nn.Linear(6 * 16 + 10 * 4, 20), nn.Linear(20, 6)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.cat([self.left(image).flatten(1), self.right(image).flatten(1)], 1)
        return self.out(F.relu(self.hidden(x)))


@final
@case(image=(4, 8, 8))
class ConcatThenSplit(nn.Module):
    """Split at another place than the concatenation joined."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(4, 6), conv(4, 10)
        self.a, self.b = nn.Conv2d(9, 6, 1), nn.Conv2d(7, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        a, b = torch.cat([self.left(image), self.right(image)], 1).split([9, 7], 1)
        return self.a(a) + self.b(b)


@final
@case(image=(4, 8, 8))
class SplitUneven(nn.Module):
    """Three uneven parts, each with a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 18)
        self.a, self.b, self.c = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        a, b, c = self.first(image).split([4, 6, 8], 1)
        return self.a(a) + self.b(b) + self.c(c)


@final
@case(image=(4, 8, 8))
class SplitWithIdentity(nn.Module):
    """One half passes untouched and is concatenated back in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.worked, self.out = conv(4, 16), conv(8, 8), nn.Conv2d(16, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.first(image).chunk(2, 1)
        return self.out(torch.cat([self.worked(right), left], 1))


@final
@case(image=(4, 8, 8))
class SplitThenAdd(nn.Module):
    """Halves of one layer added to each other: channel i and i + 8 go together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = conv(4, 16), nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.first(image).chunk(2, 1)
        return self.out(left + torch.tanh(right))


@final
@case(image=(4, 8, 8))
class GatedLinearUnit(nn.Module):
    """Half of the channels gate the other half; the same for a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(4, 24, 3), nn.Linear(12, 20), nn.Linear(10, 6)

    def forward(self, image: Tensor) -> Tensor:
        x = F.glu(self.first(image), 1).mean((2, 3))
        return self.out(F.glu(self.second(x), -1))


@final
@case(image=(4, 8, 8))
class ChannelSlices(nn.Module):
    """Contiguous, strided and reversed-end slices; some channels are never read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 16)
        self.a, self.b, self.c = nn.Conv2d(5, 6, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(3, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.a(x[:, 2:7]) + self.b(x[:, ::2]) + self.c(x[:, -3:])


@final
@case(image=(4, 8, 8))
class ChannelGather(nn.Module):
    """A permutation of channels, a choice of some (one twice), and a single one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 8)
        self.a, self.b = nn.Conv2d(8, 6, 1), nn.Conv2d(4, 6, 1)
        self.register_buffer("order", torch.tensor([3, 1, 7, 5, 0, 2, 6, 4]))
        self.register_buffer("some", torch.tensor([6, 1, 1, 2]))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = self.a(x.index_select(1, self.order)) + self.b(x.index_select(1, self.some))
        return y * x[:, 3].unsqueeze(1)


@final
@case(image=(4, 8, 8))
class ExpandedVector(nn.Module):
    """A pooled vector expanded over the map and concatenated to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.vector, self.out = conv(4, 10), nn.Linear(10, 8), nn.Conv2d(18, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        vector = F.relu(self.vector(x.mean((2, 3))))[:, :, None, None]
        return self.out(torch.cat([x, vector.expand(-1, -1, x.shape[2], x.shape[3])], 1))


@final
@case(image=(4, 8, 8))
class StackedBranches(nn.Module):
    """Branches stacked on a new axis, weighed by a softmax over it, summed: selective kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv(4, 12), conv(4, 12, 5)])
        self.squeeze = nn.Linear(12, 8)
        self.choose = nn.Linear(8, 24)
        self.out = nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.stack([branch(image) for branch in self.branches], 1)
        weights = self.choose(F.relu(self.squeeze(x.sum(1).mean((2, 3)))))
        weights = weights.view(-1, 2, 12, 1, 1).softmax(1)
        return self.out((x * weights).sum(1))


@final
@case(image=(4, 8, 8))
class OutputInside(nn.Module):
    """An inner map is an output of the model too: its channels are promised."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(4, 10), conv(10, 12), conv(12, 8)
        self.out = nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        inner = self.second(self.first(image))
        return self.out(self.third(inner)), inner


@final
@case(left=(4, 8, 8), right=(6,))
class Disconnected(nn.Module):
    """Two networks in one file that share nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.image_net = nn.Sequential(conv(4, 10), nn.Conv2d(10, 6, 1))
        self.table_net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.image_net(left), self.table_net(right)


@final
@case(image=(4, 8, 8))
class UnusedParameters(nn.Module):
    """A layer never called, a parameter never read, a layer whose result is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = conv(4, 10), nn.Conv2d(10, 6, 1)
        self.never, self.wasted = nn.Linear(10, 10), conv(10, 8)
        self.loose = nn.Parameter(torch.zeros(7))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        self.wasted(x)
        return self.out(x)


@final
@case(image=(4, 8, 8))
class NasCell(nn.Module):
    """Two inputs per node (the last and the one before), sums of mixed operators, concatenation of nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(4, 8), conv_bn(8, 8)
        self.separable = nn.Sequential(conv_bn(8, 8, 5, groups=8, act=None), conv_bn(8, 8, 1))
        self.pool, self.one = nn.AvgPool2d(3, 1, 1), conv_bn(8, 8, 1)
        self.out = nn.Conv2d(24, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.a(image)
        b = self.b(a)
        first = self.separable(a) + self.pool(b)
        second = self.one(first) + a
        return self.out(torch.cat([first, second, b], 1))
