"""Vision transformers: ViT (fused attention) and DeiT (separate projections, distillation token)."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.blocks import FusedAttention, PreNormBlock, SplitAttention
from tests.zoo.entry import image, net


@final
class Patches(nn.Module):
    """Strided convolution, then (batch, position, width)."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, dim, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image).flatten(2).transpose(1, 2)


@final
class VisionTransformer(nn.Module):
    """Class token, learned positions, pre-norm blocks, linear head on the class token."""

    def __init__(self, side: int, patch: int, dim: int, depth: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = Patches(patch, dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position_embedding = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, dim))
        self.blocks = nn.Sequential(
            *(PreNormBlock(dim, FusedAttention(dim, heads), 4 * dim) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1) + self.position_embedding
        return self.head(self.norm(self.blocks(x))[:, 0])


@final
class Deit(nn.Module):
    """A second token for distillation; at inference both heads are averaged."""

    def __init__(self, side: int, patch: int, dim: int, depth: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = Patches(patch, dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position_embedding = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 2, dim))
        self.blocks = nn.Sequential(
            *(PreNormBlock(dim, SplitAttention(dim, heads), 4 * dim) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)
        self.distillation_head = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        tokens = torch.cat([self.class_token, self.distillation_token], 1).expand(x.shape[0], -1, -1)
        x = self.norm(self.blocks(torch.cat([tokens, x], 1) + self.position_embedding))
        return (self.head(x[:, 0]) + self.distillation_head(x[:, 1])) / 2


@net(image(32), image(224), tags="transformer", fresh=True)
def vit_b_16(reduced: bool) -> nn.Module:
    if reduced:
        return VisionTransformer(32, 8, 32, 2, 4, 10)
    return VisionTransformer(224, 16, 768, 12, 12, 1000)


@net(image(32), image(32), tags="transformer")
def vit_small(reduced: bool) -> nn.Module:
    return VisionTransformer(32, 4, 48, 2, 3, 10) if reduced else VisionTransformer(32, 4, 192, 9, 3, 10)


@net(image(32), image(224), tags="transformer")
def deit_small(reduced: bool) -> nn.Module:
    return Deit(32, 8, 32, 2, 4, 10) if reduced else Deit(224, 16, 384, 12, 6, 1000)
