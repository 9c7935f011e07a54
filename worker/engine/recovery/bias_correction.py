"""Bias correction."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import onnx_ir as ir
import torch
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.context import Context
from worker.engine.graph.biases import Bias, find_bias
from worker.engine.graph.unfolded import unfolded
from worker.engine.learning.activations import Observed, channel_spreads
from worker.engine.learning.unfolding import Unfolding
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.lesson import Lesson


@final
class BiasCorrection(Recovery):
    """Gives every output channel the mean that it has in the original, layer after layer, by adding to biases
    that are there: the layer's own, one added right behind it, or the shift of the batch norm behind it.
    Where there is none, the layer stays as it is, with a note. A channel changes only where that brings its
    mean closer on held-out rows too, and a layer only where that brings the network's outputs closer to the
    original's: at high sparsity signals shrink as a whole, and adding what their means lack drowns them."""

    name: ClassVar[str] = "bias_correction"
    source: ClassVar[str | None] = "Nagel et al., ICCV 2019, arXiv 1906.04721, §4.2; Finkelstein et al. 2019"
    before_shrinking: ClassVar[bool] = True

    rows: int = Field(default=512, ge=1, le=100_000)
    """How many rows of the data to look at; no labels are needed."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def heal(self, pruned: Pruned, context: Context) -> None:
        lesson = Lesson.begin(pruned, self.rows, context)
        places = _places(lesson, pruned)
        items = {place.taught: place.item for place in places}
        expected = _means(Observed(lesson.teacher, lesson.student.passes), items)
        held_out = _means(Observed(lesson.teacher, lesson.held_out.passes), items)
        for done, place in enumerate(places, 1):
            correct = partial(_correct, lesson, place, expected[place.taught], held_out[place.taught])
            if not lesson.attempt(correct):
                lesson.skip(place.name, "correcting it moves the outputs away from the original's")
            context.progress(done, len(places), "layers")
        lesson.close("bias correction", context)


@final
@dataclass(frozen=True, eq=False)
class _Place:
    """A layer whose outputs can be shifted, and the teacher's value to match."""

    name: str
    item: Unfolding
    bias: Bias
    taught: ir.Value


def _places(lesson: Lesson, pruned: Pruned) -> list[_Place]:
    found: list[_Place] = []
    for layer in pruned.graph.layers:
        for use in layer.uses:
            item = unfolded(pruned.network, use)
            bias = None if isinstance(item, str) else find_bias(pruned.network, pruned.graph, use)
            taught = lesson.counterpart(use.node.outputs[0])
            if isinstance(item, str):
                lesson.skip(layer.name, item)
            elif bias is None or taught is None:
                lesson.skip(layer.name, "there is no bias of its own to add to")
            else:
                found.append(_Place(layer.name, item, bias, taught))
    return found


def _means(seen: Observed, items: Mapping[ir.Value, Unfolding]) -> dict[ir.Value, torch.Tensor]:
    """Mean of every output (groups · outputs) of each value."""

    def outputs(value: ir.Value, tensor: torch.Tensor) -> torch.Tensor:
        return items[value].results(tensor).movedim(3, 1).flatten(2).flatten(0, 1)

    values = list(items)
    spreads = channel_spreads(seen, values, outputs)
    return {value: spread.means for value, spread in zip(values, spreads, strict=True)}


def _correct(lesson: Lesson, place: _Place, expected: torch.Tensor, held_out: torch.Tensor) -> None:
    made = place.item.made
    shift = expected - _means(lesson.student, {made: place.item})[made]
    apart = held_out - _means(lesson.held_out, {made: place.item})[made]
    shift = torch.where((apart - shift).abs() < apart.abs(), shift, 0.0)
    if shift.any():
        lesson.write(place.bias.value, place.bias.shifted(lesson.pruned.network, shift.cpu().numpy()))
