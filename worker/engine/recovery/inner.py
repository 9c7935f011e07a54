"""Networks whose inner tensors come out with their outputs, so that a student can follow a teacher's."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import final

import onnx_ir as ir
import torch

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.graph_module import GraphModule
from worker.engine.formats.trainable import Trainable
from worker.engine.learning.batching import Tensors
from worker.engine.recovery.base import Pruned


@final
class Revealing(Trainable):
    """A network that gives the values asked for behind its outputs. Raises InvalidRecipeError where torch
    runs the module of the file itself, inside which nothing can be seen."""

    def __init__(self, trainable: Trainable, values: Sequence[ir.Value]) -> None:
        if not isinstance(trainable.module, GraphModule):
            message = "what layers compute can be followed in ONNX files alone"
            raise InvalidRecipeError(message, hint="leave out `layers`")
        self._trainable, self._values = trainable, tuple(values)
        self.module = _Revealing(trainable.module, values)
        self.input_names = trainable.input_names
        self.output_names = (*trainable.output_names, *(value.name or "" for value in values))
        self.parameters, self.statistics = trainable.parameters, trainable.statistics

    def only(self, numbers: Sequence[int]) -> "Revealing":
        """The same with those alone of the values asked for."""
        return Revealing(self._trainable, [self._values[number] for number in numbers])

    def batch_norm(self, *, training: bool) -> None:
        self._trainable.batch_norm(training=training)

    def store(self) -> None:
        self._trainable.store()


@final
class _Revealing(torch.nn.Module):
    def __init__(self, inner: GraphModule, values: Sequence[ir.Value]) -> None:
        super().__init__()
        self.inner = inner
        self._values = tuple(values)

    def forward(self, *inputs: torch.Tensor) -> Tensors:
        with self.inner.watching(self._values) as seen:
            outputs = self.inner(*inputs)
            return (*outputs, *(seen[value] for value in self._values))


def outputs_of_layers(pruned: Pruned, patterns: Sequence[str]) -> tuple[list[ir.Value], list[ir.Value]]:
    """What the layers of these names (globs) compute, in the pruned network and in the upload.

    Raises InvalidRecipeError for a name that no layer has.
    """
    taught = {
        value.name: value for node in pruned.original.structure.graph for value in node.outputs if value.name
    }
    pairs: dict[ir.Value, ir.Value] = {}
    for pattern in patterns:
        found = [layer for layer in pruned.graph.layers if fnmatchcase(layer.name, pattern)]
        if not found:
            raise InvalidRecipeError(f"there is no layer {pattern!r} to follow")
        for value in (use.node.outputs[0] for layer in found for use in layer.uses):
            if value.name in taught:
                pairs[value] = taught[value.name]
    return list(pairs), list(pairs.values())
