"""BERT (encoder), GPT-2 (decoder, fused qkv), LLaMA-style (RMS norm, rotary, grouped-query attention)."""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import SplitAttention
from tests.zoo.entry import Sample, net


@final
class BertLayer(nn.Module):
    """Post-norm: attention, add, norm; MLP, add, norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = SplitAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=1e-12)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, bias))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


@final
class Bert(nn.Module):
    """Token, position and segment embeddings; encoder; pooled classifier."""

    def __init__(self, vocabulary: int, positions: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Embedding(positions, dim)
        self.segment = nn.Embedding(2, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(dim, heads) for _ in range(depth))
        self.pooler = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, 2)

    def forward(self, tokens: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.token(tokens) + self.position(places) + self.segment(segments))
        bias = (1.0 - mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


_BERT_SMALL = {"tokens": Sample((12,), 64), "mask": Sample((12,), 2), "segments": Sample((12,), 2)}
_BERT_FULL = {"tokens": Sample((128,), 30522), "mask": Sample((128,), 2), "segments": Sample((128,), 2)}


@net(_BERT_SMALL, _BERT_FULL, tags="transformer language")
def bert(reduced: bool) -> nn.Module:
    return Bert(64, 16, 32, 2, 4) if reduced else Bert(30522, 512, 768, 12, 12)


@final
class Affine(nn.Module):
    """A linear layer whose weight is stored as (in, out), as GPT-2 keeps it."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_in, c_out) * 0.02)
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.reshape(x.shape[0], x.shape[1], flat.shape[-1])


@final
class Gpt2Block(nn.Module):
    """Pre-norm; one matrix for query, key, value, split along channels; causal mask; tanh GELU."""

    def __init__(self, dim: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = Affine(dim, 3 * dim)
        self.out = Affine(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.up = Affine(dim, 4 * dim)
        self.down = Affine(4 * dim, dim)
        causal = torch.ones(positions, positions, dtype=torch.bool).tril()
        self.register_buffer("causal", causal, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self._attend(self.norm1(x)))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        shape = (batch, length, self.heads, dim // self.heads)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in self.qkv(x).split(dim, -1))
        scores = q @ k.transpose(-2, -1) / math.sqrt(dim // self.heads)
        scores = scores.masked_fill(~self.causal[:length, :length], -1e9)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, dim)


@final
class Gpt2(nn.Module):
    """Token and position tables, decoder blocks; the output layer is the token table itself."""

    def __init__(self, vocabulary: int, positions: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Embedding(positions, dim)
        self.blocks = nn.ModuleList(Gpt2Block(dim, heads, positions) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.token.weight)


@net({"tokens": Sample((12,), 64)}, {"tokens": Sample((64,), 50257)}, tags="transformer language tied")
def gpt2(reduced: bool) -> nn.Module:
    return Gpt2(64, 16, 32, 2, 4) if reduced else Gpt2(50257, 1024, 768, 12, 12)


@final
class RmsNorm(nn.Module):
    """Divide by the root mean square, then a slope per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions on (batch, head, position, width): the two halves of each head turn together."""
    left, right = x.chunk(2, -1)
    return x * cosine + torch.cat([-right, left], -1) * sine


def rotary_tables(width: int, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (position, width)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2).float() / width)
    angles = torch.arange(positions).float()[:, None] * torch.cat([rates, rates])[None, :]
    return angles.cos(), angles.sin()


@final
class GroupedQueryAttention(nn.Module):
    """Several query heads share a key and value head; rotary positions; causal."""

    def __init__(self, dim: int, heads: int, shared: int, positions: int) -> None:
        super().__init__()
        self.heads, self.shared, self.width = heads, shared, dim // heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, shared * self.width, bias=False)
        self.value = nn.Linear(dim, shared * self.width, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        cosine, sine = rotary_tables(self.width, positions)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        cosine, sine = self.cosine[:length], self.sine[:length]
        q = rotate(self._heads(self.query(x), self.heads), cosine, sine)
        k = self._repeat(rotate(self._heads(self.key(x), self.shared), cosine, sine))
        v = self._repeat(self._heads(self.value(x), self.shared))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    def _heads(self, x: Tensor, count: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], count, self.width).transpose(1, 2)

    def _repeat(self, x: Tensor) -> Tensor:
        batch, shared, length, width = x.shape
        times = self.heads // self.shared
        return x[:, :, None].expand(batch, shared, times, length, width).reshape(batch, -1, length, width)


@final
class SwiGlu(nn.Module):
    """down(SiLU(gate(x)) · up(x)), no biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


@final
class LlamaBlock(nn.Module):
    """RMS norm, grouped-query attention, residual; RMS norm, SwiGLU, residual."""

    def __init__(self, dim: int, heads: int, shared: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.norm1 = RmsNorm(dim)
        self.attention = GroupedQueryAttention(dim, heads, shared, positions)
        self.norm2 = RmsNorm(dim)
        self.mlp = SwiGlu(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@final
class Llama(nn.Module):
    """Token table, blocks, norm; the output layer is tied to the token table or its own."""

    def __init__(
        self, vocabulary: int, dim: int, depth: int, heads: int, shared: int, hidden: int, *, tied: bool
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.blocks = nn.ModuleList(LlamaBlock(dim, heads, shared, hidden, 64) for _ in range(depth))
        self.norm = RmsNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@net({"tokens": Sample((12,), 64)}, {"tokens": Sample((64,), 49152)}, tags="transformer language gqa")
def llama(reduced: bool) -> nn.Module:
    """Reduced: an output layer of its own. Full: the proportions of SmolLM-135M."""
    if reduced:
        return Llama(64, 32, 2, 4, 2, 88, tied=False)
    return Llama(49152, 576, 30, 9, 3, 1536, tied=True)
