"""Tiny networks: linear layers in every dress, flattening, reductions, tied weights."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.cases_convolution import conv
from tests.zoo.entry import Sample, case


@final
@case(features=(5, 10))
class BatchedLinear(nn.Module):
    """Linear layers over the last of three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 6)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.body(features)


@final
@case(features=(3, 10))
class BatchedWeights(nn.Module):
    """One matrix per place, multiplied as a batch: experts side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 10, 16)), nn.Parameter(torch.randn(3, 16, 6))
        self.shift = nn.Parameter(torch.zeros(3, 1, 16))

    def forward(self, features: Tensor) -> Tensor:
        x = features.transpose(0, 1)
        return torch.bmm(F.relu(torch.bmm(x, self.up) + self.shift), self.down).transpose(0, 1)


@final
@case(features=(3, 4, 10))
class BroadcastMatmul(nn.Module):
    """A matrix broadcast over two leading axes, and one with an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(10, 16))
        self.second = nn.Parameter(torch.randn(1, 16, 6))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features @ self.first) @ self.second


@final
@case(features=(10, 7))
class WeightOnTheLeft(nn.Module):
    """Matrices multiplied from the left: channels are rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(16, 10)), nn.Parameter(torch.randn(6, 16))
        self.shift = nn.Parameter(torch.zeros(16, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.second @ F.relu(self.first @ features + self.shift)


@final
@case(features=(10,))
class GemmTransposes(nn.Module):
    """The weight as (in, out), the product transposed, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(10, 16)), nn.Parameter(torch.randn(12, 16))
        self.first_shift, self.second_shift = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(12, 1))
        self.out = nn.Linear(12, 6)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(torch.addmm(self.first_shift, features, self.first))
        y = F.relu(torch.addmm(self.second_shift, self.second, x.t()))
        return self.out(y.t())


@final
@case(features=(10,))
class GemmScaled(nn.Module):
    """alpha and beta other than one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.randn(10, 16)), nn.Parameter(torch.zeros(16))
        self.out = nn.Linear(16, 6)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(F.relu(torch.addmm(self.shift, features, self.first, alpha=0.5, beta=2.0)))


@final
@case(image=(4, 8, 8))
class FlattenBeforeLinear(nn.Module):
    """Each channel becomes sixteen columns of the matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(4, 12), nn.MaxPool2d(2), conv(12, 10))
        self.classifier = nn.Sequential(nn.Linear(160, 20), nn.ReLU(), nn.Linear(20, 6))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(image), 1))


@final
@case(image=(4, 8, 8))
class ViewBeforeLinear(nn.Module):
    """The same with a constant target, channels last, and a view back to a map."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.out = conv(4, 12), nn.Linear(12 * 64, 5 * 16), nn.Conv2d(5, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image).permute(0, 2, 3, 1).reshape(-1, 768)
        return self.out(F.relu(self.hidden(x)).view(-1, 5, 4, 4))


@final
@case(image=(4, 8, 8))
class ReduceAndSqueeze(nn.Module):
    """Global pooling as mean over two axes one after the other, as maximum, and squeezed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(4, 12), conv(12, 10)
        self.left, self.right, self.third = nn.Linear(12, 6), nn.Linear(10, 6), nn.Linear(10, 6)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = self.second(x)
        mean = x.mean(3).mean(2)
        largest = F.adaptive_max_pool2d(y, 1).squeeze(3).squeeze(2)
        return self.left(mean) + self.right(largest) + self.third(y.amax((2, 3)))


@final
@case(image=(4, 8, 8))
class ReduceOverChannels(nn.Module):
    """Mean and maximum over the channels themselves: CBAM's spatial gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.out = conv(4, 12), nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.out(x * torch.sigmoid(self.gate(summary)))


@final
@case(features=(10,))
class TiedAutoencoder(nn.Module):
    """The decoder is the encoder's matrix transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_table = nn.Parameter(torch.randn(16, 10))
        self.shift, self.back = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(10))

    def forward(self, features: Tensor) -> Tensor:
        code = torch.sigmoid(F.linear(features, self.weight_table, self.shift))
        return F.linear(code, self.weight_table.t(), self.back)


@final
@case(tokens=Sample((7,), 20))
class TiedEmbedding(nn.Module):
    """One table is looked up at the start and multiplied at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(20, 12)
        self.body = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens)
        return F.linear(x + self.body(x), self.token.weight)


@final
@case(features=(10,))
class SharedLinear(nn.Module):
    """One module called twice in a row and once beside."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.out = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 6)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.first(features))
        return self.out(self.again(F.relu(self.again(x))) + torch.tanh(self.again(x)))


@final
@case(features=(10,))
class Bilinear(nn.Module):
    """x·W·y of two branches, and an einsum over two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(10, 8), nn.Linear(10, 12)
        self.core = nn.Parameter(torch.randn(6, 8, 12))

    def forward(self, features: Tensor) -> Tensor:
        left, right = F.relu(self.left(features)), F.relu(self.right(features))
        return torch.einsum("bi,oij,bj->bo", left, self.core, right)


@final
@case(patches=(6, 10))
class MlpMixer(nn.Module):
    """Linear layers over places, then over channels, with transposes between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.places = nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 6))
        self.channels = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.out = nn.Linear(16, 6)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.first(patches)
        x = x + self.places(x.transpose(1, 2)).transpose(1, 2)
        return self.out((x + self.channels(x)).mean(1))


@final
@case(features=(10,))
class NoBias(nn.Module):
    """Two linear layers with nothing between, then activations in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(i, o, bias=False) for i, o in ((10, 16), (16, 12), (12, 6)))

    def forward(self, features: Tensor) -> Tensor:
        return self.c(torch.clamp(F.leaky_relu(F.elu(self.b(self.a(features)))), -1.5, 2.0))
