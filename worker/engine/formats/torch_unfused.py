"""Torch's fused attention and encoder layers, written out.

Modules of nn.MultiheadAttention and nn.TransformerEncoder run everything in one operator where no gradients
are wanted. Nothing can be seen or changed inside of it, so that it is replaced by what it does.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_LAYERS = "aten::_transformer_encoder_layer_fwd"
_ATTENTIONS = "aten::_native_multi_head_attention"


def _attention(
    query: Tensor,
    key: Tensor,  # noqa: ARG001 - as the operator has it
    value: Tensor,  # noqa: ARG001
    embed_dim: int,
    heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None,
    need_weights: bool,  # noqa: ARG001
    average: bool,
    mask_type: int | None,
) -> tuple[Tensor, Tensor]:
    """Of a sequence with itself: query, key and value are the same."""
    parts = functional.linear(query, qkv_weight, qkv_bias).chunk(3, -1)
    q = torch.unflatten(parts[0], -1, [heads, -1]).transpose(1, 2)
    k = torch.unflatten(parts[1], -1, [heads, -1]).transpose(1, 2)
    v = torch.unflatten(parts[2], -1, [heads, -1]).transpose(1, 2)
    scores = torch.matmul(q * (float(embed_dim // heads) ** -0.5), k.transpose(-2, -1))
    if mask is not None:
        hidden = mask
        if mask_type is not None and mask_type == 1:  # of keys, the same for all queries
            hidden = mask.unsqueeze(1).unsqueeze(1)
        scores = scores.masked_fill(hidden.to(torch.bool), float("-inf"))
    weights = torch.softmax(scores, -1)
    made = functional.linear(torch.matmul(weights, v).transpose(1, 2).flatten(2), proj_weight, proj_bias)
    if average:
        weights = weights.mean(1)
    return made, weights


def _normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return functional.layer_norm(x, [weight.size(0)], weight, bias, eps)


def _fed(x: Tensor, gelu: bool, weight_1: Tensor, bias_1: Tensor, weight_2: Tensor, bias_2: Tensor) -> Tensor:
    hidden = functional.linear(x, weight_1, bias_1)
    active = functional.gelu(hidden) if gelu else functional.relu(hidden)
    return functional.linear(active, weight_2, bias_2)


def _encoder_layer(
    src: Tensor,
    embed_dim: int,
    heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    mask: Tensor | None,
    mask_type: int | None,
) -> Tensor:
    x = _normed(src, norm_weight_1, norm_bias_1, eps) if norm_first else src
    read, _ = _attention(
        x,
        x,
        x,
        embed_dim,
        heads,
        qkv_weight,
        qkv_bias,
        proj_weight,
        proj_bias,
        mask,
        False,
        True,
        mask_type,
    )
    x = src + read
    if norm_first:
        y = _normed(x, norm_weight_2, norm_bias_2, eps)
        return x + _fed(y, gelu, weight_1, bias_1, weight_2, bias_2)
    x = _normed(x, norm_weight_1, norm_bias_1, eps)
    y = x + _fed(x, gelu, weight_1, bias_1, weight_2, bias_2)
    return _normed(y, norm_weight_2, norm_bias_2, eps)


@cache
def _graph_of(kind: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript as a whole
        function = torch.jit.script({_LAYERS: _encoder_layer, _ATTENTIONS: _attention}[kind])
    graph = function.graph
    torch._C._jit_pass_inline(graph)
    return graph


def write_out(module: torch.jit.ScriptModule) -> None:
    """Replace fused operators in the module's forward. Must come before the first call."""
    graph: Any = module.forward.graph  # type: ignore[attr-defined]
    everything: Any = module.inlined_graph
    if any(everything.findAllNodes(kind) for kind in (_LAYERS, _ATTENTIONS)):
        torch._C._jit_pass_inline(graph)
        write_out_in(graph)


def write_out_in(graph: Any) -> bool:
    """The same in an inlined graph; whether there were any. Attention of one sequence to another stays as it
    is."""
    found = [node for kind in (_LAYERS, _ATTENTIONS) for node in graph.findAllNodes(kind) if _alone(node)]
    for node in found:
        _replace(graph, node)
    if found:
        torch._C._jit_pass_lint(graph)
    return bool(found)


def _alone(node: Any) -> bool:
    """True where all that is attended to is one sequence."""
    return node.kind() == _LAYERS or len({node.inputsAt(place).unique() for place in range(3)}) == 1


def _replace(graph: Any, node: Any) -> None:
    graph.setInsertPoint(node)
    made = graph.insertGraph(_graph_of(node.kind()), list(node.inputs()))
    outputs = list(node.outputs())
    if len(made) < len(outputs):  # several in a tuple
        made = list(made[0].node().inputs())
    for old, new in zip(outputs, made, strict=True):
        old.replaceAllUsesWith(new)
    node.destroy()
