"""Building blocks that several families share."""

from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def divisible(width: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `width`, never under 90 % of it (the MobileNet rule)."""
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded


def conv_bn(
    c_in: int,
    c_out: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    padding: int | tuple[int, int] | None = None,
    act: Activation | None = nn.ReLU,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without bias, batch norm and an activation; `same` padding unless given."""
    if padding is None:
        sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (sides[0] // 2 * dilation, sides[1] // 2 * dilation)
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)
    norm = nn.BatchNorm2d(c_out, eps=eps)
    return nn.Sequential(conv, norm) if act is None else nn.Sequential(conv, norm, act())


@final
class SqueezeExcite(nn.Module):
    """Channel gate by pooled features through two 1×1 convolutions."""

    def __init__(
        self, width: int, squeezed: int, act: Activation = nn.ReLU, gate: Activation = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(width, squeezed, 1)
        self.act = act()
        self.expand = nn.Conv2d(squeezed, width, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


@final
class InvertedResidual(nn.Module):
    """1×1 expansion (left out when it would not expand), depthwise, optional gate, linear projection."""

    def __init__(
        self,
        c_in: int,
        hidden: int,
        c_out: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        act: Activation = nn.ReLU6,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        expand = [] if hidden == c_in else [conv_bn(c_in, hidden, 1, act=act)]
        depthwise = conv_bn(hidden, hidden, kernel, stride, groups=hidden, act=act)
        gates = [] if gate is None else [gate]
        self.body = nn.Sequential(*expand, depthwise, *gates, conv_bn(hidden, c_out, 1, act=None))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.residual else y


@final
class PooledLinear(nn.Module):
    """Global average pooling, flatten, linear: the classifier of most image networks."""

    def __init__(self, c_in: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.pool(x), 1))


@final
class FusedAttention(nn.Module):
    """Multi-head self-attention, one matrix for query, key and value, PyTorch's fused kernel."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


@final
class SplitAttention(nn.Module):
    """Multi-head self-attention with separate projections and the softmax written out."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        scores = q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


@final
class Mlp(nn.Sequential):
    """Linear, activation, linear."""

    def __init__(self, dim: int, hidden: int, act: Activation = nn.GELU) -> None:
        super().__init__(nn.Linear(dim, hidden), act(), nn.Linear(hidden, dim))


@final
class PreNormBlock(nn.Module):
    """Transformer block: norm, attention, residual; norm, MLP, residual."""

    def __init__(self, dim: int, attention: nn.Module, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))
