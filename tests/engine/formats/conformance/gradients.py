"""What gradients are checked on: the suite's cases of one node, and own ones where it has none.

Everything is computed in float64. Floating inputs are moved a little, so that none lies on a kink or a tie.
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto

from tests.engine.formats.conformance.own_samples import OWN
from tests.engine.formats.conformance.scope import FAILING, FAILING_BOTH, excluded
from tests.engine.formats.conformance.suite import OLDEST, Case, Inputs, cases, followed
from worker.engine.formats.graph_tensors import to_torch
from worker.engine.formats.operators.registry import covered

Key = tuple[str, str]

_NO_FLOATS = "gives integers or truth values"
_STEPS = "is constant between its steps"
_FROM_NOTHING = "makes its values from shapes and attributes"
_DRAWS = "draws at random"
#: Operators without a gradient, and why.
CONSTANT: dict[Key, str] = {
    **{
        ("", name): _NO_FLOATS
        for name in (
            "And ArgMax ArgMin BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor ConvInteger "
            "Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual MatMulInteger NonMaxSuppression "
            "NonZero Not Or QLinearConv QLinearMatMul QuantizeLinear Shape Size TfIdfVectorizer Xor"
        ).split()
    },
    **{
        ("com.microsoft", f"QLinear{name}"): _NO_FLOATS
        for name in "Add Concat GlobalAveragePool LeakyRelu Mul Sigmoid".split()
    },
    ("", "Hardmax"): _STEPS,
    ("ai.onnx.ml", "Binarizer"): _STEPS,
    **{
        ("", name): _FROM_NOTHING
        for name in "BlackmanWindow ConstantOfShape EyeLike HammingWindow HannWindow MelWeightMatrix".split()
    },
    **{
        ("", name): _DRAWS
        for name in (
            "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"
        ).split()
    },
}

#: Floating inputs that an operator takes as settings or places, by index: no gradient flows to them.
FIXED: dict[Key, frozenset[int]] = {
    ("", "BatchNormalization"): frozenset({3, 4}),
    ("", "CastLike"): frozenset({1}),
    ("", "Dropout"): frozenset({1}),
    ("", "MaxRoiPool"): frozenset({1}),
    ("", "NegativeLogLikelihoodLoss"): frozenset({2}),
    ("", "OneHot"): frozenset({0, 1}),
    ("", "Pad"): frozenset({2}),
    ("", "Range"): frozenset({1}),
    ("", "Resize"): frozenset({1, 2}),
    ("", "SoftmaxCrossEntropyLoss"): frozenset({2}),
    ("", "Upsample"): frozenset({1}),
}


#: ONNX's checker refuses files with these; what computes them is checked under the other name.
SAME_AS: dict[Key, Key] = {
    ("", "SimplifiedLayerNormalization"): ("com.microsoft", "SimplifiedLayerNormalization"),
}
#: Cases about dividing by zero and by infinity, where there is no derivative.
_NO_DERIVATIVE = "test_mod_float_edge_cases"


@dataclass(frozen=True, eq=False)
class Sample:
    """A model of one node of an operator, and inputs for it."""

    key: Key
    name: str
    model: ModelProto
    inputs: Inputs

    def tensors(self) -> list[torch.Tensor]:
        """Inputs in float64; those that gradients are taken to require them."""
        noise = np.random.default_rng(0)
        return [self._tensor(place, one, noise) for place, one in enumerate(self.inputs)]

    def _tensor(self, place: int, array: Any, noise: np.random.Generator) -> torch.Tensor:
        tensor = to_torch(array)
        if not _computed(tensor):
            return tensor
        if place in FIXED.get(self.key, ()):
            return tensor.double()
        moved = tensor.double() + torch.from_numpy(noise.uniform(1e-4, 1e-3, array.shape))
        return moved.requires_grad_()


def _computed(tensor: torch.Tensor) -> bool:
    """Floats that are computed with; those of a byte are only stored."""
    return tensor.is_floating_point() and tensor.dtype.itemsize > 1


#: Of an operator with more cases so many are taken, spread over all of them.
MOST = 25


@functools.cache
def samples() -> dict[Key, list[Sample]]:
    """Samples of every operator that has any."""
    found: dict[Key, list[Sample]] = defaultdict(list)
    for name, case in cases().items():
        nodes = [node for node in case.model.graph.node if node.op_type != "Constant"]
        if len(nodes) == 1 and case.opset >= OLDEST and _followed(case):
            key = (nodes[0].domain, nodes[0].op_type)
            found[key] += [Sample(key, name, case.model, inputs) for inputs, _ in case.data]
    for key, own in OWN.items():
        found[key] += [_own(key, number, *one) for number, one in enumerate(own)]
    return {key: _spread(those) for key, those in found.items()}


def _followed(case: Case) -> bool:
    # Definitions written out may leave inputs of the operator unread.
    left_out = case.name.startswith(_NO_DERIVATIVE) or "_expanded" in case.name
    failing = case.name in FAILING or case.name in FAILING_BOTH
    return excluded(case) is None and not failing and not left_out


def _spread(those: list[Sample]) -> list[Sample]:
    filled = [one for one in those if not one.inputs or np.size(one.inputs[0])]
    step = max(1, -(-len(filled) // MOST))
    return filled[::step]


def _own(key: Key, number: int, text: str, inputs: Sequence[Any]) -> Sample:
    return Sample(key, f"own_{number}", onnx.parser.parse_model(text), list(inputs))


def keys() -> list[Key]:
    """Every operator that is covered, but those checked under another name."""
    return [key for key in covered() if key not in SAME_AS]


def outputs_of(sample: Sample) -> tuple[Any, list[torch.Tensor]]:
    """A function from the inputs that require gradients to the floating outputs, and those inputs."""
    module, tensors = followed(sample.model, torch.float64), sample.tensors()
    variables = [one for one in tensors if one.requires_grad]

    def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(0)
        given = iter(values)
        found = module(*(next(given) if one.requires_grad else one for one in tensors))
        # What is infinite stays so, whatever the inputs do in the neighbourhood.
        return tuple(torch.where(one.isfinite(), one, 0.0) for one in found if _computed(one))

    return run, variables


def checked(sample: Sample) -> bool:
    """False where there is nothing to differentiate; raises where a gradient is cut or wrong."""
    run, variables = outputs_of(sample)
    found = run(*variables)
    if not variables or not any(one.requires_grad for one in found):
        return False
    total = torch.stack([one.sum() for one in found if one.requires_grad]).sum()
    reached = torch.autograd.grad(total, variables, allow_unused=True)
    assert all(one is not None for one in reached), f"{sample.name}: a gradient is cut"
    return torch.autograd.gradcheck(run, variables, eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)
