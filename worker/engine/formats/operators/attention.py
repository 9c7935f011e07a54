"""Attention over a sequence: softmax attention with its caches and masks, and rotary positions."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator

#: What the fourth output of Attention shows, by `qk_matmul_output_mode`.
_RAW, _CAPPED, _BIASED, _PROBABILITIES = range(4)


@operator("Attention", since=23)
def attention(
    call: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Scaled dot-product attention; keys shared by several queries' heads, cached keys come first."""
    packed = query.dim() == 3
    if packed:
        query = split_heads(query, call.int("q_num_heads"))
        key, value = (split_heads(each, call.int("kv_num_heads")) for each in (key, value))
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        key, value = torch.cat((past_key, key), dim=2), torch.cat((past_value, value), dim=2)
    bias = _bias(call, _Scope(query, key.shape[2], past, lengths), mask)
    out, shown = _attend(call, query, key, value, bias)
    results = (_packed(out) if packed else out, key, value)
    return (*results, shown) if call.outputs > 3 and shown is not None else results[: call.outputs]


def split_heads(packed: Tensor, heads: int) -> Tensor:
    """(batch, length, heads · size) as (batch, heads, length, size)."""
    batch, length, _ = packed.shape
    return packed.reshape(batch, length, heads, -1).transpose(1, 2)


def _packed(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class _Scope:
    """Which keys there are: their number, how many precede the queries, how many of each sample are real."""

    query: Tensor
    keys: int
    past: int
    lengths: Tensor | None

    def ahead(self) -> Tensor:
        """Key position minus the query's own, (queries, keys) or (batch, 1, queries, keys)."""
        device, queries = self.query.device, self.query.shape[2]
        keys = torch.arange(self.keys, device=device)
        places = torch.arange(queries, device=device).unsqueeze(1) + self.past
        if self.lengths is not None and not self.past:
            places = places + (self.lengths.reshape(-1, 1, 1, 1) - queries)
        return keys - places

    def real(self) -> Tensor | None:
        """True for keys that are no padding."""
        if self.lengths is None:
            return None
        return torch.arange(self.keys, device=self.query.device) < self.lengths.reshape(-1, 1, 1, 1)


def _bias(call: Call, scope: _Scope, mask: Tensor | None) -> Tensor | None:
    """What is added to the scores: the mask given, -inf where a key must not be seen."""
    bias = None
    if mask is not None:
        bias = _additive(mask, scope.query) if mask.dtype == torch.bool else mask
        bias = functional.pad(bias, (0, scope.keys - mask.shape[-1]), value=-math.inf)
    for seen in _seen(call, scope):
        shut = _additive(seen, scope.query)
        bias = shut if bias is None else bias + shut
    return bias


def _seen(call: Call, scope: _Scope) -> list[Tensor]:
    found = []
    left, right = call.int("left_window_size", -1), call.int("right_window_size", -1)
    if call.int("is_causal", 0):
        found.append(scope.ahead() <= 0)
    if left >= 0:
        found.append(scope.ahead() >= -left)
    if right >= 0:
        found.append(scope.ahead() <= right)
    real = scope.real()
    return found if real is None else [*found, real]


def _additive(seen: Tensor, like: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=like.dtype, device=like.device)
    return torch.where(seen, zero, zero - math.inf)


def _attend(
    call: Call, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    shared = query.shape[1] // key.shape[1]
    if shared > 1:
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    scale = call.float("scale", 1 / math.sqrt(query.shape[-1]))
    if call.outputs < 4 and not call.float("softcap", 0.0) and bias is None:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale), None
    root = math.sqrt(scale)
    return _attend_openly(call, query * root, key * root, value, bias)


def _attend_openly(
    call: Call, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Every step by itself, for what the fused kernel does not offer."""
    stages = [query @ key.transpose(-1, -2)]
    cap = call.float("softcap", 0.0)
    stages.append(cap * torch.tanh(stages[_RAW] / cap) if cap > 0 else stages[_RAW])
    stages.append(stages[_CAPPED] if bias is None else stages[_CAPPED] + bias)
    precision = call.dtype(call.int("softmax_precision")) if call.has("softmax_precision") else query.dtype
    stages.append(_softmax(stages[_BIASED].to(precision), bias).to(query.dtype))
    return stages[_PROBABILITIES] @ value, stages[call.int("qk_matmul_output_mode", _RAW)]


def _softmax(scores: Tensor, bias: Tensor | None) -> Tensor:
    """A query that may see no key attends to nothing (zeros, and no NaN in its gradient)."""
    if bias is None:
        return torch.softmax(scores, dim=-1)
    blind = torch.isneginf(bias).all(dim=-1, keepdim=True)
    return torch.softmax(scores.masked_fill(blind, 0), dim=-1).masked_fill(blind, 0)


@operator("RotaryEmbedding", since=23)
def rotary_embedding(
    call: Call, inputs: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | None = None
) -> Tensor:
    """Turns pairs of features by angles that grow with the position."""
    heads = inputs.transpose(1, 2) if inputs.dim() == 4 else inputs
    if inputs.dim() == 3:
        heads = inputs.reshape(*inputs.shape[:2], call.int("num_heads"), -1)
    width = call.int("rotary_embedding_dim", 0) or heads.shape[-1]
    if positions is not None:
        cosines, sines = cosines[positions], sines[positions]
    made = turned(heads[..., :width], cosines.unsqueeze(2), sines.unsqueeze(2), call.int("interleaved", 0))
    out = torch.cat((made, heads[..., width:]), dim=-1)
    return out.flatten(2) if inputs.dim() == 3 else out.transpose(1, 2)


def turned(pairs: Tensor, cosines: Tensor, sines: Tensor, interleaved: int) -> Tensor:
    """Pairs of features, neighbours or halves, turned by angles."""
    if interleaved:
        first, second = pairs[..., 0::2], pairs[..., 1::2]
    else:
        first, second = pairs.chunk(2, dim=-1)
    real = cosines * first - sines * second
    imaginary = sines * first + cosines * second
    if interleaved:
        return torch.stack((real, imaginary), dim=-1).flatten(-2)
    return torch.cat((real, imaginary), dim=-1)
