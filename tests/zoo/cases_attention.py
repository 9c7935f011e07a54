"""Tiny networks: attention in its several forms."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import FusedAttention, SplitAttention
from tests.zoo.cases_convolution import conv
from tests.zoo.entry import case
from tests.zoo.language import GroupedQueryAttention, RmsNorm, SwiGlu, rotary_tables, rotate


class Wrapped(nn.Module):
    """Linear, an attention with a residual, linear; only for the cases here."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.first, self.attention, self.out = nn.Linear(10, 16), attention, nn.Linear(16, 6)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.first(features))
        return self.out(x + self.attention(x))


@final
@case(features=(7, 10))
class AttentionFused(Wrapped):
    """One matrix for query, key and value."""

    def __init__(self) -> None:
        super().__init__(FusedAttention(16, 4))


@final
@case(features=(7, 10))
class AttentionSplit(Wrapped):
    """Separate matrices, softmax written out."""

    def __init__(self) -> None:
        super().__init__(SplitAttention(16, 4))


@final
@case(features=(7, 10))
class AttentionGrouped(Wrapped):
    """Four query heads on two key-value heads, rotary, causal."""

    def __init__(self) -> None:
        super().__init__(GroupedQueryAttention(16, 4, 2, 8))


@final
@case(features=(7, 10))
class AttentionMultiQuery(Wrapped):
    """All query heads on one key-value head."""

    def __init__(self) -> None:
        super().__init__(GroupedQueryAttention(16, 4, 1, 8))


@final
class _Library(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


@final
@case(features=(7, 10))
class AttentionLibrary(Wrapped):
    """PyTorch's own nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__(_Library())


@final
@case(features=(7, 10))
class EncoderLibrary(Wrapped):
    """PyTorch's own transformer encoder layer."""

    def __init__(self) -> None:
        super().__init__(nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=True))


@final
@case(features=(7, 10), memory=(5, 12))
class AttentionCross(nn.Module):
    """Queries from one input, keys and values from another."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(10, 16), nn.Linear(12, 16), nn.Linear(12, 16)
        self.out = nn.Linear(16, 6)

    def forward(self, features: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            self._heads(self.query(features)),
            self._heads(self.key(memory)),
            self._heads(self.value(memory)),
        )
        mixed = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], 4, 4).transpose(1, 2)


@final
@case(features=(7, 10))
class AttentionOneHead(nn.Module):
    """No head axis at all: widths of query and key, and of value, are free."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(10, 8), nn.Linear(10, 8), nn.Linear(10, 12)
        self.out = nn.Linear(12, 6)

    def forward(self, features: Tensor) -> Tensor:
        scores = self.query(features) @ self.key(features).transpose(1, 2) * 8**-0.5
        return self.out(scores.softmax(-1) @ self.value(features))


@final
@case(image=(4, 6, 6))
class AttentionOverMap(nn.Module):
    """The non-local block: 1×1 convolutions, flattened places, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(4, 12)
        self.query, self.key, self.value = (nn.Conv2d(12, 8, 1) for _ in range(3))
        self.back, self.out = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 6, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        q, k, v = self.query(x).flatten(2), self.key(x).flatten(2), self.value(x).flatten(2)
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        mixed = (v @ weights.transpose(1, 2)).reshape(x.shape[0], 8, x.shape[2], x.shape[3])
        return self.out(x + self.back(mixed))


@final
@case(features=(7, 10))
class AttentionRelative(nn.Module):
    """Scores from an einsum, with a learned bias per head and offset."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(10, 48), nn.Linear(16, 6)
        self.bias_table = nn.Parameter(torch.zeros(13, 4))
        places = torch.arange(7)
        self.register_buffer("offsets", places[:, None] - places[None, :] + 6)

    def forward(self, features: Tensor) -> Tensor:
        parts = self.qkv(features).chunk(3, -1)
        q, k, v = [part.unflatten(-1, (4, 4)) for part in parts]
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * 0.5
        scores = scores + self.bias_table[self.offsets].permute(2, 0, 1)
        return self.out(torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2))


@final
class _Cached(nn.Module):
    """Rotary attention over cached keys and values and one's own: what a decoder step is."""

    def __init__(self, heads: int, shared: int) -> None:
        super().__init__()
        self.heads, self.shared = heads, shared
        self.query, self.out = nn.Linear(16, 4 * heads, bias=False), nn.Linear(4 * heads, 16)
        self.key, self.value = (nn.Linear(16, 4 * shared, bias=False) for _ in range(2))

    def forward(self, x: Tensor, past_key: Tensor, past_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        past, batch = past_key.shape[2], x.shape[0]
        cosine, sine = rotary_tables(4, 12)
        cosine, sine = cosine[past : past + x.shape[1]], sine[past : past + x.shape[1]]
        q = rotate(self._heads(self.query(x), self.heads), cosine, sine)
        k = torch.cat([past_key, rotate(self._heads(self.key(x), self.shared), cosine, sine)], 2)
        v = torch.cat([past_value, self._heads(self.value(x), self.shared)], 2)
        wide = [self._repeated(part, batch) for part in (k, v)]
        mixed = (q @ wide[0].transpose(-2, -1) * 0.5).softmax(-1) @ wide[1]
        return self.out(mixed.transpose(1, 2).reshape(batch, -1, 4 * self.heads)), k, v

    def _heads(self, x: Tensor, count: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], count, 4).transpose(1, 2)

    def _repeated(self, x: Tensor, batch: int) -> Tensor:
        times = self.heads // self.shared
        wide = x[:, :, None].expand(batch, self.shared, times, x.shape[2], 4)
        return wide.reshape(batch, self.heads, x.shape[2], 4)


class Decoder(nn.Module):
    """A step with a cache: attention and a gated layer, each with a residual; the cache grows."""

    def __init__(self, heads: int, shared: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(10, 16), nn.Linear(16, 6)
        self.norm1, self.norm2 = RmsNorm(16), RmsNorm(16)
        self.attention, self.mlp = _Cached(heads, shared), SwiGlu(16, 24)

    def forward(
        self, features: Tensor, past_key: Tensor, past_value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = self.first(features)
        mixed, key, value = self.attention(self.norm1(x), past_key, past_value)
        x = x + mixed
        return self.last(x + self.mlp(self.norm2(x))), key, value


@final
@case(features=(3, 10), past_key=(4, 5, 4), past_value=(4, 5, 4))
class CacheFull(Decoder):
    """As many key and value heads as query heads."""

    def __init__(self) -> None:
        super().__init__(4, 4)


@final
@case(features=(3, 10), past_key=(2, 5, 4), past_value=(2, 5, 4))
class CacheGrouped(Decoder):
    """Two query heads on each cached key and value head."""

    def __init__(self) -> None:
        super().__init__(4, 2)


@final
@case(features=(3, 10), past_key=(1, 5, 4), past_value=(1, 5, 4))
class CacheMultiQuery(Decoder):
    """All query heads on one cached key and value head."""

    def __init__(self) -> None:
        super().__init__(4, 1)
