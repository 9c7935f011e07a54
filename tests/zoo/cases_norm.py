"""Tiny networks: norms, per-channel constants and parameters, activations with parameters."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.cases_convolution import Pipeline, conv
from tests.zoo.entry import case


@final
@case(image=(4, 8, 8))
class GroupNorm(Pipeline):
    """Channels of a group are normed together."""

    def __init__(self) -> None:
        norms = (nn.GroupNorm(4, 16), nn.GroupNorm(2, 16))
        first, second = nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        super().__init__(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.Conv2d(16, 6, 1))


@final
@case(image=(4, 8, 8))
class InstanceNorm(Pipeline):
    """Each channel by itself, with and without slopes."""

    def __init__(self) -> None:
        norms = (nn.InstanceNorm2d(12, affine=True), nn.InstanceNorm2d(8))
        first, second = nn.Conv2d(4, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        super().__init__(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.Conv2d(8, 6, 1))


@final
@case(image=(4, 8, 8))
class NormFirst(nn.Module):
    """Batch norm on what two convolutions share, before each of them: it cannot be merged."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.left, self.right = nn.Conv2d(12, 8, 1), nn.Conv2d(12, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = F.relu(self.norm(x))
        return self.out(self.left(y) + self.right(F.relu(x)))


@final
@case(features=(10,))
class NormAfterLinear(nn.Module):
    """Batch norm over features, layer norm over features."""

    def __init__(self) -> None:
        super().__init__()
        first = (nn.Linear(10, 24), nn.BatchNorm1d(24), nn.ReLU())
        self.body = nn.Sequential(*first, nn.Linear(24, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 6))

    def forward(self, features: Tensor) -> Tensor:
        return self.body(features)


@final
@case(image=(4, 8, 8))
class PreluPerChannel(Pipeline):
    """One slope per channel, and one slope for all."""

    def __init__(self) -> None:
        first, second = nn.Conv2d(4, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        super().__init__(first, nn.PReLU(12), second, nn.PReLU(), nn.Conv2d(8, 6, 1))


@final
@case(image=(4, 8, 8))
class ChannelConstants(nn.Module):
    """Slopes and shifts per channel as plain tensors, of four, three and one axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = conv(4, 12), nn.Conv2d(12, 6, 1)
        self.slope_scale = nn.Parameter(torch.ones(1, 12, 1, 1))
        self.shift = nn.Parameter(torch.zeros(12, 1, 1))
        self.last_shift = nn.Parameter(torch.zeros(12))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image) * self.slope_scale + self.shift
        x = (x.permute(0, 2, 3, 1) - self.last_shift).permute(0, 3, 1, 2)
        return self.out(F.relu(x))


@final
@case(image=(4, 8, 8))
class FrozenNorm(nn.Module):
    """A batch norm written as arithmetic on buffers, as detection backbones do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Conv2d(4, 12, 3, padding=1, bias=False), nn.Conv2d(12, 6, 1)
        self.slope_scale, self.shift = nn.Parameter(torch.ones(12)), nn.Parameter(torch.zeros(12))
        self.register_buffer("mean", torch.linspace(-0.3, 0.4, 12))
        self.register_buffer("variance", torch.linspace(0.5, 1.5, 12))

    def forward(self, image: Tensor) -> Tensor:
        slope = (self.slope_scale * (self.variance + 1e-5).rsqrt()).reshape(1, -1, 1, 1)
        shift = (self.shift - self.mean * slope.reshape(-1)).reshape(1, -1, 1, 1)
        return self.out(F.relu(self.first(image) * slope + shift))


@final
@case(image=(4, 8, 8))
class LayerScale(nn.Module):
    """A residual branch weighed per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 12)
        self.body = nn.Sequential(conv(12, 24), nn.Conv2d(24, 12, 1))
        self.branch_scale = nn.Parameter(torch.ones(12, 1, 1))
        self.out = nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.out(x + self.branch_scale * self.body(x))


@final
@case(image=(4, 8, 8))
class StochasticConstants(nn.Module):
    """Dropout, stochastic depth and noise as they look at inference: identities and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 12)
        self.body = nn.Sequential(conv(12, 12), nn.Dropout2d(0.3), nn.AlphaDropout(0.1))
        self.out = nn.Conv2d(12, 6, 1)
        self.register_buffer("keep", torch.tensor(0.8))
        self.register_buffer("noise", torch.linspace(-0.1, 0.1, 12).reshape(1, 12, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.out(x + self.body(x) * self.keep + self.noise)


@final
@case(image=(4, 8, 8))
class SpatialConstant(nn.Module):
    """A learned map (channel, height, width) added to the features, as position embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = conv(4, 12), nn.Conv2d(12, 6, 1)
        self.place_embedding = nn.Parameter(torch.zeros(1, 12, 8, 8))

    def forward(self, image: Tensor) -> Tensor:
        return self.out(F.relu(self.first(image) + self.place_embedding))


@final
@case(image=(4, 8, 8))
class SoftmaxOverChannels(nn.Module):
    """Softmax and L2 norm along channels in the middle: removing one changes all others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = conv(4, 12), nn.Conv2d(12, 8, 1), nn.Conv2d(8, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.second(torch.softmax(self.first(image), 1))
        return self.out(F.normalize(x, dim=1))
