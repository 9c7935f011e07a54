"""Pruned networks that know the digits, and what heals them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from api_schemas.jobs import InputSpecs
from tests.engine.learning.digits import TRAINING_ROWS, as_onnx, as_torchscript, digits, rows_file, trained
from tests.engine.masks import recipe
from worker.engine import formats
from worker.engine.checkpoint import Checkpoints
from worker.engine.context import Context
from worker.engine.data import load_dataset
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph.build import build
from worker.engine.planning import resolve_parts, select
from worker.engine.recovery.base import Pruned
from worker.engine.types import Goal

INPUTS: InputSpecs = {"input": [1, 1, 8, 8]}
HELD_OUT = slice(TRAINING_ROWS, None)


@dataclass
class Case:
    """A file, and how many rows there are to learn from."""

    folder: Path
    file: Path
    rows: int = TRAINING_ROWS
    labels: bool = True

    @classmethod
    def of(cls, folder: Path, make: Any, format: str = "onnx", **options: Any) -> "Case":
        """A trained network as a file; `batch` binds an ONNX file to a number of rows."""
        batch = options.pop("batch", None)
        if format == "onnx":
            return cls(folder, as_onnx(trained(make), folder / "m.onnx", batch=batch), **options)
        return cls(folder, as_torchscript(trained(make), folder / "m.pt"), **options)

    @property
    def inputs(self) -> InputSpecs:
        """What the file does not say of its input."""
        return INPUTS if self.file.suffix == ".pt" else {}

    def pruned(self, sparsity: float = 0.9) -> Pruned:
        """The network cut by lookahead, with the upload beside it; rows held out are the last ones."""
        options = LoadOptions(inputs=self.inputs, scratch=self.folder)
        network, original = formats.load(self.file, options), formats.load(self.file, options)
        parts = resolve_parts(recipe(criterion="lookahead", target={"sparsity": sparsity}))
        graph = build(network, self.inputs)
        plan = select(parts, network, graph, Goal(sparsity), Context(self.folder))
        parts.apply.apply(plan, graph, network, self.folder)
        data = rows_file(self.folder / "rows.npz", slice(0, self.rows), labels=self.labels)
        held_out = rows_file(self.folder / "held_out.npz", HELD_OUT, labels=self.labels)
        values = [layer.view.value for layer in graph.layers]
        return Pruned(
            network=network,
            graph=graph,
            original=original,
            masks={value: network.read(value) != 0 for value in values},
            data=load_dataset(data, network.inputs, given=self.inputs),
            validation=load_dataset(held_out, network.inputs, given=self.inputs),
            inputs=self.inputs,
        )

    def context(self, checkpoints: Checkpoints | None = None) -> Context:
        """Surroundings for one healing."""
        return Context(self.folder, checkpoints=checkpoints or Checkpoints())

    def accuracy(self, network: Network) -> float:
        """Share of right answers of the saved file on the rows held out, in the runtime of its users."""
        path = self.folder / f"saved{network.suffix}"
        network.save(path)
        images, labels = (array[HELD_OUT] for array in digits())
        size = network.inputs[0].shape[0] if network.inputs[0].shape else None
        step = size if isinstance(size, int) and network.suffix == ".onnx" else len(labels)
        runner = formats.runner(path, LoadOptions(inputs=self.inputs), 1)
        stop = len(labels) // step * step
        calls = [runner.run({"input": images[i : i + step]})[0] for i in range(0, stop, step)]
        return float((np.concatenate(calls).argmax(1) == labels[:stop]).mean())


def holds(pruned: Pruned) -> bool:
    """Whether every pruned weight is zero, to the bit."""
    words = [pruned.network.read(value)[~mask] for value, mask in pruned.masks.items()]
    return all(not array.view(np.int32).any() for array in words)


def weights(network: Network) -> dict[str, np.ndarray]:
    """Copies of all stored tensors by name."""
    initializers = network.structure.graph.initializers
    return {name: network.read(value).copy() for name, value in initializers.items()}
