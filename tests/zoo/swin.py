"""Swin-T: attention in windows, shifted every other block, relative position bias, patch merging."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import Mlp
from tests.zoo.entry import image, net


def relative_index(window: int) -> Tensor:
    """(window², window²): the row of the bias table for each pair of positions."""
    grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    offset = grid[:, :, None] - grid[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def partition(x: Tensor, window: int) -> Tensor:
    """(batch, side, side, width) → (batch · windows, window², width)."""
    batch, height, width, dim = x.shape
    x = x.view(batch, height // window, window, width // window, window, dim)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, dim)


def merge(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `partition`."""
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """(windows, window², window²): −100 between positions that were not neighbours before the roll."""
    edges = torch.zeros(side)
    edges[side - window : side - shift] = 1
    edges[side - shift :] = 2
    zones = (edges[:, None] * 3 + edges[None, :])[None, :, :, None]
    flat = partition(zones, window)[..., 0]
    return (flat[:, None, :] != flat[:, :, None]).float() * -100.0


@final
class WindowAttention(nn.Module):
    """Attention inside windows of a (batch, side, side, width) map, rolled by `shift` first."""

    def __init__(self, dim: int, heads: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("index", relative_index(window).flatten())
        self.register_buffer("mask", shift_mask(side, window, shift) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1], x.shape[2]
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = merge(self._attend(partition(x, self.window)), self.window, height, width)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x

    def _attend(self, x: Tensor) -> Tensor:
        windows, length, dim = x.shape
        qkv = self.qkv(x).reshape(windows, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = (q * (dim // self.heads) ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias_table[self.index].view(length, length, -1).permute(2, 0, 1)
        if self.mask is not None:
            count = self.mask.shape[0]
            scores = scores.view(-1, count, self.heads, length, length) + self.mask[:, None]
            scores = scores.view(-1, self.heads, length, length)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(windows, length, dim))


@final
class SwinBlock(nn.Module):
    """Norm, window attention, residual; norm, MLP, residual."""

    def __init__(self, dim: int, heads: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, side, window, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@final
class PatchMerging(nn.Module):
    """Four neighbours side by side in the channels, normed, projected to twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, -1)))


@final
class Swin(nn.Module):
    """Patches of 4, stages of block pairs, merging between, norm, mean, head."""

    def __init__(
        self, side: int, dim: int, depths: Sequence[int], heads: Sequence[int], window: int, classes: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.first_norm = nn.LayerNorm(dim)
        blocks: list[nn.Module] = []
        side //= 4
        for number, (depth, head) in enumerate(zip(depths, heads, strict=True)):
            if number:
                blocks.append(PatchMerging(dim))
                dim, side = 2 * dim, side // 2
            for index in range(depth):
                shift = window // 2 if index % 2 and side > window else 0
                blocks.append(SwinBlock(dim, head, side, window, shift))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first_norm(self.patches(image).permute(0, 2, 3, 1))
        return self.head(self.norm(self.blocks(x)).mean((1, 2)))


@net(image(64), image(224), tags="transformer window")
def swin_t(reduced: bool) -> nn.Module:
    if reduced:
        return Swin(64, 16, (2, 2), (2, 4), 4, 10)
    return Swin(224, 96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 1000)
