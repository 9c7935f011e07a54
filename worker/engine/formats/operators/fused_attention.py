"""Attention and what stands around it as ONNX Runtime's own operators, which its optimizer writes."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.operators.attention import split_heads, turned
from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator

_MICROSOFT = "com.microsoft"
#: What hides a key from a query, unless the node says another number.
_HIDDEN = -10000.0


@operator("Attention", domain=_MICROSOFT)
def attention(
    call: Call,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    added: Tensor | None = None,
    past_length: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Query, key and value by one matrix, then attention; the second output holds keys and values."""
    if call.int("do_rotary") or call.int("past_present_share_buffer") or past_length is not None:
        raise InvalidRecipeError(f"{call.name!r} turns positions or shares a buffer, which is not computed")
    third = weights.shape[1] // 3
    sizes = call.ints("qkv_hidden_sizes") or (third, third, third)
    made = x @ weights if bias is None else x @ weights + bias
    heads = call.int("num_heads")
    query, key, value = (split_heads(part, heads) for part in torch.split(made, list(sizes), dim=-1))
    if past is not None:
        key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
    out = _attend(call, (query, key, value), _sum(_padding(call, mask, query, key.shape[2]), added))
    return (out, torch.stack((key, value))) if call.outputs > 1 else (out,)


@operator("MultiHeadAttention", domain=_MICROSOFT)
def multi_head(
    call: Call,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    added: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_length: Tensor | None = None,
    indirection: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Attention over query, key and value that come apart; the cache's come first."""
    if key is None or value is None or past_length is not None or indirection is not None or call.outputs > 3:
        raise InvalidRecipeError(
            f"{call.name!r} packs its operands, or shares a buffer, which is not computed"
        )
    heads = call.int("num_heads")
    parts = [query, key, value]
    if bias is not None:
        width = query.shape[-1]
        biases = torch.split(bias, [width, width, bias.shape[0] - 2 * width])
        parts = [
            p + b if p.dim() == 3 else p + b.reshape(heads, 1, -1) for p, b in zip(parts, biases, strict=True)
        ]
    q, k, v = (split_heads(part, heads) if part.dim() == 3 else part for part in parts)
    if past_key is not None and past_value is not None:
        k, v = torch.cat((past_key, k), dim=2), torch.cat((past_value, v), dim=2)
    out = _attend(call, (q, k, v), _sum(_padding(call, mask, q, k.shape[2]), added))
    return (out, k, v)[: call.outputs]


@operator("GroupQueryAttention", domain=_MICROSOFT)
def grouped(
    call: Call,
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    last: Tensor,
    total: Tensor,
    cosines: Tensor | None = None,
    sines: Tensor | None = None,
    positions: Tensor | None = None,
    added: Tensor | None = None,
    *others: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Causal attention of several query heads on each key and value head. `last` is the number of keys of
    each sample less one: equal for all samples here, as it is wherever nothing is padded."""
    heads, shared = call.int("num_heads"), call.int("kv_num_heads")
    unusual = ("smooth_softmax", "qk_output", "sliding_window_cache")
    if any(one is not None for one in others) or any(call.int(name) for name in unusual):
        raise InvalidRecipeError(f"{call.name!r} has options that are not computed")
    if key is None or value is None:
        width = query.shape[-1] // (heads + 2 * shared)
        sizes = [heads * width, shared * width, shared * width]
        query, key, value = torch.split(query, sizes, dim=-1)
    q, k, v = split_heads(query, heads), split_heads(key, shared), split_heads(value, shared)
    before = 0 if past_key is None else past_key.shape[2]
    if call.int("do_rotary") and cosines is not None and sines is not None:
        places = (
            torch.arange(before, before + q.shape[2], device=q.device) if positions is None else positions
        )
        q, k = (_rotated(call, one, cosines[places], sines[places], "rotary_interleaved") for one in (q, k))
    if past_key is not None and past_value is not None:
        k, v = torch.cat((past_key, k), dim=2), torch.cat((past_value, v), dim=2)
    times = heads // shared
    wide = (q, k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1))
    bias = _sum(_window(call, q, k.shape[2]), added)
    return (_attend(call, wide, bias, causal=bool(call.int("causal", 1))), k, v)[: call.outputs]


@operator("RotaryEmbedding", domain=_MICROSOFT)
def rotary(call: Call, x: Tensor, positions: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turns pairs of features by angles that grow with the position; (batch, positions, heads · features), or
    heads first."""
    heads = call.int("num_heads") or x.shape[-1] // (2 * cosines.shape[-1])
    apart = split_heads(x, heads) if x.dim() == 3 else x
    if positions.numel() == 1:
        positions = positions.reshape(()) + torch.arange(apart.shape[2], device=x.device)
    made = _rotated(call, apart, cosines[positions], sines[positions], "interleaved")
    return made.transpose(1, 2).flatten(2) if x.dim() == 3 else made


def _rotated(call: Call, x: Tensor, cosines: Tensor, sines: Tensor, kind: str) -> Tensor:
    """(batch, heads, positions, features), tables (batch, positions, half) or (positions, half)."""
    width = 2 * cosines.shape[-1]
    if cosines.dim() == 3:
        cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    return torch.cat((turned(x[..., :width], cosines, sines, call.int(kind)), x[..., width:]), dim=-1)


def _attend(
    call: Call, parts: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, *, causal: bool = False
) -> Tensor:
    """Heads side by side again."""
    query, key, value = parts
    scale = call.float("scale") or 1 / math.sqrt(query.shape[-1])
    scores = query @ key.mT * scale
    cap = call.float("softcap")
    scores = cap * torch.tanh(scores / cap) if cap else scores
    scores = scores if bias is None else scores + bias
    if causal or call.int("unidirectional"):
        scores = scores + _above(query, key.shape[2], -math.inf)
    mixed = torch.softmax(scores, dim=-1) @ value
    return mixed.transpose(1, 2).flatten(2)


def _above(query: Tensor, keys: int, hidden: float) -> Tensor:
    """What hides keys that come after their query."""
    queries = query.shape[2]
    ones = torch.full((queries, keys), hidden, dtype=query.dtype, device=query.device)
    return torch.triu(ones, diagonal=keys - queries + 1)


def _window(call: Call, query: Tensor, keys: int) -> Tensor | None:
    """What hides keys that lie too far before their query."""
    size, queries = call.int("local_window_size", -1), query.shape[2]
    if size < 0:
        return None
    ones = torch.full((queries, keys), -math.inf, dtype=query.dtype, device=query.device)
    return torch.tril(ones, diagonal=keys - queries - size)


def _padding(call: Call, mask: Tensor | None, query: Tensor, keys: int) -> Tensor | None:
    """What a mask of keys adds to the scores: (batch), how many are real; (batch, keys), 1 for real ones;
    (batch, queries, keys), the same for each query."""
    if mask is None:
        return None
    if mask.dim() == 1 and mask.shape[0] != query.shape[0]:
        raise InvalidRecipeError(f"{call.name!r} has a mask of first and last keys, which is not computed")
    if mask.dim() > 3:
        raise InvalidRecipeError(f"{call.name!r} has a mask of four axes, which is not computed")
    if mask.dim() == 1:
        mask = torch.arange(keys, device=query.device) < mask.reshape(-1, 1)
    shaped = mask.reshape(mask.shape[0], 1, -1, mask.shape[-1])
    hidden = call.float("mask_filter_value", _HIDDEN)
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    return torch.where(shaped > 0, zero, zero + hidden)


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return first if second is None else second
    return first + second


@operator("EmbedLayerNormalization", domain=_MICROSOFT)
def embedded(
    call: Call,
    words: Tensor,
    kinds: Tensor | None,
    word_table: Tensor,
    place_table: Tensor,
    kind_table: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mask: Tensor | None = None,
    places: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """The sum of rows of the tables, its layer norm, and how many words are real."""
    order = torch.arange(words.shape[1], device=words.device) if places is None else places
    total = word_table[words] + place_table[order]
    if kinds is not None and kind_table is not None:
        total = total + kind_table[kinds]
    made = functional.layer_norm(total, total.shape[-1:], scale, shift, call.float("epsilon", 1e-12))
    real = torch.zeros(words.shape[0], dtype=torch.int32, device=words.device)
    real = real if mask is None else mask.sum(dim=1).to(torch.int32)
    return (made, real, total)[: call.outputs]
