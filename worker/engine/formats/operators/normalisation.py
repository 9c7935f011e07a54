"""Normalisation. Batch norm runs in inference or training mode, as the module is told."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("BatchNormalization")
def batch_norm_of_any_axes(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """Batch norm; with `spatial` = 0 every position of a channel has statistics of its own."""
    if call.int("spatial", 1):
        return _normalised(call, x, scale, bias, mean, variance)
    flat = x.reshape(x.shape[0], -1)
    parts = (part.reshape(-1) for part in (scale, bias, mean, variance))
    return _normalised(call, flat, *parts).reshape(x.shape)


@operator("BatchNormalization", since=9)
def batch_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Batch norm by stored statistics, or by the batch's own in training."""
    return _normalised(call, x, scale, bias, mean, variance)


@operator("BatchNormalization", since=14)
def batch_norm_or_training(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Batch norm; with `training_mode` = 1 in the file by the batch's own statistics, which come out."""
    if not call.int("training_mode"):
        return _normalised(call, x, scale, bias, mean, variance)
    epsilon, momentum = call.float("epsilon", 1e-5), call.float("momentum", 0.9)
    made = torch.batch_norm(x, scale, bias, None, None, True, 0.0, epsilon, False)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    with torch.no_grad():
        own, spread = x.mean(axes), x.var(axes, correction=0)
        running = mean * momentum + own * (1 - momentum)
        return made, running, variance * momentum + spread * (1 - momentum)


def _normalised(call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """In training the running statistics change in place, as in torch: unbiased variance, ONNX's momentum.

    One value per channel has no variance, so such a batch is normalised by the stored statistics.
    """
    training = call.training and x.numel() > x.shape[1]
    momentum = 1 - call.float("momentum", 0.9)
    epsilon = call.float("epsilon", 1e-5)
    return torch.batch_norm(x, scale, bias, mean, variance, training, momentum, epsilon, True)


@operator("LayerNormalization", since=17)
def layer_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Normalised over the axes from `axis` on; mean and inverse deviation come out on demand."""
    axis, epsilon = call.int("axis", -1), call.float("epsilon", 1e-5)
    shape = x.shape[axis:]
    if call.outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape):
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    axes = tuple(range(axis % x.dim(), x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
    made = (x - mean) * inverse * scale
    made = made if bias is None else made + bias
    return made if call.outputs == 1 else (made, mean, inverse)


@operator("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_norm(
    call: Call,
    x: Tensor,
    skip: Tensor,
    scale: Tensor,
    shift: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Layer norm of x + skip + bias; the sum is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    made = functional.layer_norm(total, total.shape[-1:], scale, shift, call.float("epsilon", 1e-12))
    return made, None, None, total


@operator("SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_rms_norm(
    call: Call, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """Divides x + skip + bias by the root of its mean square; the sum is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    made = functional.rms_norm(total, total.shape[-1:], scale, call.float("epsilon", 1e-12))
    return made, None, None, total


@operator("RMSNormalization", since=23)
@operator("SimplifiedLayerNormalization", since=1)
@operator("SimplifiedLayerNormalization", domain="com.microsoft")
def rms_norm(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    """Divided by the root of the mean square over the axes from `axis` on."""
    axis, epsilon = call.int("axis", -1), call.float("epsilon", 1e-5)
    if scale.shape == x.shape[axis:]:
        return functional.rms_norm(x, x.shape[axis:], scale, epsilon)
    axes = tuple(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon) * scale


@operator("GroupNormalization", since=18)
def group_norm_by_groups(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Group norm with a slope and an offset for each group."""
    groups = call.int("num_groups")
    each = x.shape[1] // groups
    slopes, offsets = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return torch.group_norm(x, groups, slopes, offsets, call.float("epsilon", 1e-5))


@operator("GroupNormalization", since=21)
def group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Group norm with a slope and an offset for each channel."""
    return torch.group_norm(x, call.int("num_groups"), scale, bias, call.float("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every channel of every sample by its own statistics."""
    return torch.group_norm(x, x.shape[1], scale, bias, call.float("epsilon", 1e-5))


@operator("LRN")
def local_response_norm(call: Call, x: Tensor) -> Tensor:
    """Divided by a power of the squares of the channels around."""
    size = call.int("size")
    alpha, beta = call.float("alpha", 1e-4), call.float("beta", 0.75)
    squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
    before = (size - 1) // 2
    around = functional.pad(squares, (0, 0, before, size - 1 - before))
    means = functional.avg_pool2d(around, (size, 1), 1).reshape(x.shape)
    return x / (call.float("bias", 1.0) + alpha * means) ** beta


@operator("MeanVarianceNormalization", since=9)
def mean_variance_norm(call: Call, x: Tensor) -> Tensor:
    """Mean zero and deviation one over the axes."""
    axes = call.ints("axes") or (0, 2, 3)
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


@operator("LpNormalization")
def lp_norm(call: Call, x: Tensor) -> Tensor:
    """Divided by the p-norm along an axis; zero where that is zero."""
    axis, p = call.int("axis", -1), call.int("p", 2)
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else torch.linalg.vector_norm(x, 2, axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)
