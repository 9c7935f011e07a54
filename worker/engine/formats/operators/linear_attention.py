"""Attention by a recurrent state, and the stateful convolution that goes before it."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("LinearAttention", since=27)
def linear_attention(
    call: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Tensor | None = None,
    decay: Tensor | None = None,
    rate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the state per token: decay it, correct the value by what it recalls, write, read."""
    wide = torch.promote_types(query.dtype, torch.float32)
    heads, groups = call.int("kv_num_heads"), call.int("q_num_heads")
    queries = _by_time(query, groups, wide)
    keys, values = _by_time(key, heads, wide), _by_time(value, heads, wide)
    scale = call.float("scale", 0.0) or 1 / math.sqrt(queries.shape[-1])
    state = keys.new_zeros(*keys.shape[1:], values.shape[-1]) if past is None else past.to(wide)
    decays = None if decay is None else _by_time(decay, heads, wide).exp().unsqueeze(-1)
    rates = None if rate is None else rate.transpose(0, 1).unsqueeze(-1).to(wide)
    read = []
    for step, (k, v) in enumerate(zip(keys, values, strict=True)):
        if decays is not None:
            state = state * decays[step]
        if rates is not None:
            v = rates[step] * (v - torch.einsum("bhdm,bhd->bhm", state, k))
        state = state + k.unsqueeze(-1) * v.unsqueeze(-2)
        shared = state.repeat_interleave(groups // heads, dim=1)
        read.append(scale * torch.einsum("bhd,bhdm->bhm", queries[step], shared))
    out = torch.stack(read, dim=1).flatten(2)
    return out.to(query.dtype), state.to(query.dtype if past is None else past.dtype)


def _by_time(packed: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """(batch, time, heads · size) as (time, batch, heads, size)."""
    batch, time, _ = packed.shape
    return packed.to(dtype).transpose(0, 1).reshape(time, batch, heads, -1)


@operator("CausalConvWithState", since=27)
def causal_conv_with_state(
    call: Call, inputs: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Each channel convolved by itself over its own past; the last positions are carried on."""
    channels, _, width = weight.shape
    if past is None:
        past = inputs.new_zeros(inputs.shape[0], channels, width - 1)
    padded = torch.cat((past, inputs), dim=2)
    out = functional.conv1d(padded, weight, bias, groups=channels)
    if call.string("activation", "none") in ("silu", "swish"):
        out = functional.silu(out)
    return out, padded[:, :, padded.shape[2] - (width - 1) :]
