"""Losses that a graph computes itself."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator

#: torch's own "no class", which no label has.
_NO_CLASS = -100


@operator("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(
    call: Call, logarithms: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Minus the log-probability of each label, weighted by class; the mean by the weights' sum."""
    return functional.nll_loss(
        logarithms,
        labels.long(),
        weights,
        ignore_index=call.int("ignore_index", _NO_CLASS),
        reduction=call.string("reduction", "mean"),
    )


@operator("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(
    call: Call, scores: Tensor, labels: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The loss above of the softmax over classes, and the log-probabilities."""
    logarithms = torch.log_softmax(scores, dim=1)
    return (negative_log_likelihood_loss(call, logarithms, labels, weights), logarithms)[: call.outputs]
