"""Steps that exporters took apart and torch has whole: Gelu by Erf, products with a bias.

The results are the same but for rounding; torch then makes one pass over memory where the file makes five.
What is inside cannot be watched, so that the steps as they stand in the file are kept beside these.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import final

from torch import Tensor
from torch.nn import functional

from worker.engine.formats.graph_plan import Frame, Plan, Step, step_reads
from worker.engine.formats.operators import Call, Sizes

_CLOSE = 1e-4


def fused(plan: Plan, frame: Frame, stored: Mapping[int, Tensor]) -> Plan:
    """The plan with fewer steps; `frame` and `stored` are what it starts from."""
    fusion = _Fusion(plan, frame, stored)
    for index, step in enumerate(plan.steps):
        if step.call.operator == "Erf":
            fusion.gelu(index)
        elif step.call.operator == "MatMul":
            fusion.bias(index)
    return replace(plan, steps=tuple(step for step in fusion.steps if step is not None))


def _gelu(_: Call, x: Tensor) -> Tensor:
    return functional.gelu(x)


def _linear(_: Call, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, weight.mT, bias)


@final
class _Fusion:
    """The steps of a plan while some are taken together."""

    def __init__(self, plan: Plan, frame: Frame, stored: Mapping[int, Tensor]) -> None:
        self.steps: list[Step | None] = list(plan.steps)
        self._frame, self._stored = frame, stored
        self._made = {place: index for index, step in enumerate(plan.steps) for place in step.results}
        self._readers: dict[int, list[int]] = defaultdict(list)
        for index, step in enumerate(plan.steps):
            for place in step_reads(step):
                self._readers[place].append(index)
        self._outputs = frozenset(plan.outputs)

    def bias(self, index: int) -> None:
        """A product with a stored matrix and the Add of a stored vector behind it."""
        product = self._step(index)
        after = self._only_reader(product.results[0])
        if after is None or product.call.domain or not self._stored_rank(product.operands[1], 2):
            return
        other = self._beside(after, "Add", product.results[0])
        if other is not None and self._stored_rank(other, 1) and not self._stored_rank(product.operands[0]):
            width = self._stored[product.operands[1]].shape[1]
            if self._stored[other].shape[0] == width:
                self._become(after, _linear, (*product.operands, other), [index])

    def gelu(self, index: int) -> None:
        """x · (1 + Erf(x / √2)) · ½, in whatever order it is multiplied."""
        erf = self._step(index)
        root = self._made.get(erf.operands[0])
        x = None if root is None else self._scaled(root, math.sqrt(0.5))
        after = self._only_reader(erf.results[0])
        if root is None or x is None or after is None or self._only_reader(erf.operands[0]) is None:
            return
        one = self._beside(after, "Add", erf.results[0])
        if one is None or not self._is_number(one, 1.0):
            return
        inner, missing, last = [root, index], {"x", "half"}, after
        while missing:
            value = self._step(last).results[0]
            following = self._only_reader(value)
            found = None if following is None else self._factor(following, value, x)
            if following is None or found is None or not found <= missing:
                return
            inner, missing, last = [*inner, last], missing - found, following
        factor = self._made.get(self._beside(last, "Mul", self._step(inner[-1]).results[0]) or 0)
        halved = [factor] if factor is not None and self._scaled(factor, 0.5) == x else []
        self._become(last, _gelu, (x,), inner + halved)

    def _factor(self, index: int, value: int, x: int) -> set[str] | None:
        """What a Mul adds to the product: x, a half, or half of x."""
        other = self._beside(index, "Mul", value)
        if other is None:
            return None
        if other == x:
            return {"x"}
        if self._is_number(other, 0.5):
            return {"half"}
        maker = self._made.get(other)
        alone = maker is not None and self._only_reader(other) == index
        return {"x", "half"} if alone and maker is not None and self._scaled(maker, 0.5) == x else None

    def _become(
        self, index: int, function: Callable[..., Tensor], operands: tuple[int, ...], inner: list[int]
    ) -> None:
        """Put a function in place of a step and of those that only worked for it."""
        step = self._step(index)
        self.steps[index] = replace(step, function=function, operands=operands, sizes=False)
        for gone in inner:
            self.steps[gone] = None

    def _step(self, index: int) -> Step:
        step = self.steps[index]
        assert step is not None, "taken together twice"  # noqa: S101 (places are made once)
        return step

    def _only_reader(self, place: int) -> int | None:
        """The step that alone reads a place, which is no output."""
        readers = self._readers[place]
        return readers[0] if len(readers) == 1 and place not in self._outputs else None

    def _beside(self, index: int, operator: str, place: int) -> int | None:
        """The other operand of a step of that operator."""
        step = self.steps[index]
        if step is None or step.call.operator != operator or step.call.domain or len(step.operands) != 2:
            return None
        first, second = step.operands
        return second if first == place else first if second == place else None

    def _scaled(self, index: int, factor: float) -> int | None:
        """The place that a Mul or Div multiplies by this factor."""
        step = self.steps[index]
        if step is None or step.call.operator not in ("Mul", "Div"):
            return None
        first, second = step.operands
        if step.call.operator == "Div":
            return first if self._is_number(second, 1 / factor) else None
        if self._is_number(second, factor):
            return first
        return second if self._is_number(first, factor) else None

    def _is_number(self, place: int, wanted: float) -> bool:
        """Whether a place holds one fixed number, this one."""
        value = self._frame[place] or self._stored.get(place)
        if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
            return abs(float(value) - wanted) < _CLOSE * wanted
        if not isinstance(value, Sizes) or len(value) != 1:
            return False
        return abs(float(value.values[0]) - wanted) < _CLOSE * wanted

    def _stored_rank(self, place: int, rank: int | None = None) -> bool:
        tensor = self._stored.get(place)
        return tensor is not None and tensor.is_floating_point() and rank in (None, tensor.dim())
