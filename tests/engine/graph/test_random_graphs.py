"""Random graphs: masked = shrunk, counts, and channel maps against what perturbing a weight really changes.

More graphs by hand: `python -m tests.engine.graph.test_random_graphs FIRST COUNT`.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_schemas.recipe import RecipeRequest, resolve
from tests.engine.graph.random_graphs import Array, save_graph
from worker.engine.apply.mask import Mask
from worker.engine.apply.shrink import Shrink
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import NothingPrunableError
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import build
from worker.engine.graph.channels import ChannelMap, Source
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.planning import analyse, goal_of, resolve_parts, select
from worker.engine.report.inspection import count_parameters
from worker.engine.targets.cut import removed_parameters

#: Relative to the largest magnitude of a tensor: more is a change, less is rounding.
ROUNDING = 1e-5
SETTINGS = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def ran(path: Path, names: list[str] | None = None) -> dict[str, Array]:
    """Values of the model for one fixed input, without any optimisation: outputs, or those named."""
    model = onnx.load(path)
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names or [] if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    outputs = [value.name for value in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {"x": x}), strict=True))


def hold_shrunk_to_masked(random: Random, steps: int, folder: Path) -> bool:
    """Halve the channels both ways; False where the graph offers none."""
    path = save_graph(random, steps, folder / "m.onnx")
    request = {"preset": "lookahead_channels", "target": {"sparsity": 0.5}}
    recipe = resolve(RecipeRequest.model_validate(request), catalogue().preset_axes())
    parts, context = resolve_parts(recipe), Context(folder)
    network = load(path, LoadOptions(scratch=folder))
    try:
        graph = analyse(network, {}, recipe, context)
        plan = select(parts, network, graph, goal_of(parts, recipe), context)
    except NothingPrunableError:
        return False
    small = Shrink().apply(plan, graph, network, folder)
    before, after = count_parameters(network, graph)[0], count_parameters(small, build(small))[0]
    assert before - after == removed_parameters(network, graph, plan)
    assert after < before
    full = load(path, LoadOptions(scratch=folder))
    Mask().apply(plan, analyse(full, {}, recipe, context), full, folder)
    full.save(folder / "masked.onnx")
    small.save(folder / "small.onnx")
    masked, shrunk = ran(folder / "masked.onnx"), ran(folder / "small.onnx")
    for name, value in masked.items():
        largest = np.abs(value).max()
        assert np.abs(value - shrunk[name]).max() <= 1e-4 * largest, name
    return True


def changed_units(graph: Graph, layer: Layer, group: int, output: int) -> set[tuple[Source, int]]:
    """By the maps alone: every unit that depends on the weights of one output of a layer."""
    uses = [use for each in (*graph.layers, *graph.refused) for use in each.uses]
    units = {(use.source, int(use.outputs[group, output])) for use in layer.uses if use.source is not None}
    size = -1
    while len(units) > size:
        size = len(units)
        for use in uses:
            if isinstance(use.incoming, ChannelMap) and use.source is not None:
                read = carried(use.incoming, units).reshape(-1)[use.inputs].any(axis=1)
                units |= {(use.source, int(unit)) for unit in use.outputs[read].reshape(-1)}
    return units


def carried(channels: ChannelMap, units: set[tuple[Source, int]]) -> Array:
    """True at the indices of a map that carry one of the units."""
    found = np.zeros(channels.sizes, dtype=bool)
    for term in channels.terms:
        wanted = [unit for source, unit in units if source is term.source]
        found |= np.isin(term.units, wanted)
    return found


def hold_maps_to_changes(random: Random, steps: int, folder: Path) -> None:
    """Perturb one output of one layer; the indices that change are those that the maps say."""
    path = save_graph(random, steps, folder / "m.onnx")
    network = load(path, LoadOptions(scratch=folder))
    graph = build(network)
    layer = random.choice([layer for layer in graph.layers if layer.uses])
    groups, outputs = layer.view.seen_shape()[:2]
    group, output = random.randrange(groups), random.randrange(outputs)
    _perturb(network, layer, group, output)
    network.save(folder / "other.onnx")
    followed = dict(_followed(graph))
    names = [value.name or "" for value in followed]
    before, after = ran(path, names), ran(folder / "other.onnx", names)
    units = changed_units(graph, layer, group, output)
    for value, channels in followed.items():
        old, new = before[value.name or ""], after[value.name or ""]
        others = tuple(axis for axis in range(old.ndim) if axis not in channels.axes)
        moved = np.abs(new - old).max(axis=others)
        said = carried(channels, units)
        assert not (moved > ROUNDING * np.abs(old).max())[~said].any(), (
            f"{value.name}: more changes than said"
        )
        assert (moved > 0)[said].all(), f"{value.name}: less changes than said"


def _perturb(network: Network, layer: Layer, group: int, output: int) -> None:
    stored = network.read(layer.view.value)
    seen = np.array(layer.view.forward(stored))
    seen[group, output] += np.random.default_rng(1).uniform(0.2, 0.6, seen[group, output].shape)
    network.write(layer.view.value, np.ascontiguousarray(layer.view.back(seen)).astype(stored.dtype))


def _followed(graph: Graph) -> Iterator[tuple[ir.Value, ChannelMap]]:
    """Values whose channels all come from layers, and from layers whose inputs are followed too."""
    uses = [use for each in (*graph.layers, *graph.refused) for use in each.uses]
    lost, size = {use.source for use in uses if _is_lost(use)}, -1
    while len(lost) > size:
        size = len(lost)
        for use in uses:
            if isinstance(use.incoming, ChannelMap) and _carries(use.incoming, lost):
                lost.add(use.source)
    for value, channels in graph.maps.items():
        if isinstance(channels, ChannelMap) and not _carries(channels, lost):
            yield value, channels


def _is_lost(use: LayerUse) -> bool:
    """True where a layer reads something computed whose channels are not known."""
    return not isinstance(use.incoming, ChannelMap) and not any(
        value is not None and value.is_graph_input() for value in use.node.inputs
    )


def _carries(channels: ChannelMap, lost: set[Source | None]) -> bool:
    return any(term.source.given or term.source in lost for term in channels.terms)


@SETTINGS
@given(random=st.randoms(use_true_random=False), steps=st.integers(3, 14))
def test_shrunk_equals_masked_and_counts_are_right(random: Random, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hold_shrunk_to_masked(random, steps, Path(folder))


@SETTINGS
@given(random=st.randoms(use_true_random=False), steps=st.integers(3, 14))
def test_maps_say_what_a_perturbed_weight_changes(random: Random, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hold_maps_to_changes(random, steps, Path(folder))


def _by_hand(first: int, count: int) -> int:
    """Seeds from `first` on, both checks; prints what fails."""
    failed = cut = 0
    for seed in range(first, first + count):
        for check in (hold_shrunk_to_masked, hold_maps_to_changes):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    cut += bool(check(Random(seed), 3 + seed % 18, Path(folder)))
                except Exception as error:  # one graph's failure must not hide the next one's
                    failed += 1
                    sys.stdout.write(f"{seed} {check.__name__}: {type(error).__name__} {str(error)[:300]}\n")
    sys.stdout.write(f"{count} graphs, {cut} cut, {failed} failures\n")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, _by_hand(int(sys.argv[1]), int(sys.argv[2]))))
