"""Random numbers, drawn from torch's own generator: a run's seed fixes them, a node's seed does not.

A node's seed would give every step of a training the same noise.
"""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator


def _dtype(call: Call, default: torch.dtype) -> torch.dtype:
    return call.dtype(call.int("dtype")) if call.has("dtype") else default


def _normal(call: Call, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    noise = torch.randn(shape, dtype=dtype, device=call.device)
    return noise * call.float("scale", 1.0) + call.float("mean", 0.0)


def _uniform(call: Call, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    low, high = call.float("low", 0.0), call.float("high", 1.0)
    return torch.rand(shape, dtype=dtype, device=call.device) * (high - low) + low


@operator("RandomNormal")
def random_normal(call: Call) -> Tensor:
    """Normal numbers of a given shape."""
    return _normal(call, tuple(call.ints("shape")), _dtype(call, call.dtype(1)))


@operator("RandomNormalLike")
def random_normal_like(call: Call, like: Tensor) -> Tensor:
    """Normal numbers in the shape of a tensor."""
    return _normal(call, tuple(like.shape), _dtype(call, like.dtype))


@operator("RandomUniform")
def random_uniform(call: Call) -> Tensor:
    """Uniform numbers of a given shape."""
    return _uniform(call, tuple(call.ints("shape")), _dtype(call, call.dtype(1)))


@operator("RandomUniformLike")
def random_uniform_like(call: Call, like: Tensor) -> Tensor:
    """Uniform numbers in the shape of a tensor."""
    return _uniform(call, tuple(like.shape), _dtype(call, like.dtype))


@operator("Bernoulli", since=15)
def bernoulli(call: Call, chances: Tensor) -> Tensor:
    """Ones with the chance that each element says, zeros else."""
    return torch.bernoulli(chances.detach()).to(_dtype(call, chances.dtype))


@operator("Multinomial")
def multinomial(call: Call, scores: Tensor) -> Tensor:
    """Classes drawn by unnormalised log-probabilities, with replacement."""
    chances = torch.softmax(scores.detach(), dim=-1)
    drawn = torch.multinomial(chances, call.int("sample_size", 1), replacement=True)
    return drawn.to(_dtype(call, torch.int32))


@operator("Dropout")
def dropout_7(call: Call, x: Tensor) -> tuple[Tensor, ...]:
    """Nothing is dropped: before opset 12 the operator was for inference alone."""
    kept = torch.ones_like(x, dtype=torch.bool if call.opset >= 10 else x.dtype)
    return (x, kept)[: call.outputs]


@operator("Dropout", since=12, floats=True)
def dropout(call: Call, x: Value, ratio: Value = None, training: Value = None) -> tuple[Tensor, ...]:
    """In training mode elements are zeroed by chance and the others scaled up; else the input as it is."""
    data = call.tensor_of(x)
    share = 0.5 if ratio is None else call.floats_of(ratio)[0]
    if training is None or not call.int_of(training) or share == 0:
        return (data, torch.ones_like(data, dtype=torch.bool))[: call.outputs]
    kept = torch.rand_like(data) >= share
    return (torch.where(kept, data / (1 - share), torch.zeros_like(data)), kept)[: call.outputs]
