"""Random graphs: masked = shrunk, counts, and channel maps against what perturbing a weight really changes.

More graphs by hand: `python -m tests.engine.graph.test_random_graphs FAMILY FIRST COUNT`.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_schemas.recipe import RecipeRequest, resolve
from tests.engine.graph.random_fused import draw_fused
from tests.engine.graph.random_graphs import STEPS, Array, draw_graph, save_model
from tests.engine.graph.random_images import IMAGE_STEPS
from tests.engine.graph.random_sequences import draw_sequence
from worker.engine.apply.shrink import Shrink
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, NothingPrunableError
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import build
from worker.engine.graph.channels import ChannelMap, Source
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.planning import analyse, goal_of, resolve_parts, select
from worker.engine.report.inspection import count_parameters
from worker.engine.targets.cut import removed_parameters
from worker.engine.verify.masked import write_masked
from worker.engine.verify.promises import Promise

Draw = Callable[[Random, int], onnx.ModelProto]


def draw_image(random: Random, steps: int) -> onnx.ModelProto:
    """Every kind of step over images."""
    return draw_graph(random, steps, STEPS + IMAGE_STEPS)


FAMILIES: dict[str, Draw] = {
    "plain": draw_graph,
    "image": draw_image,
    "sequence": draw_sequence,
    "fused": draw_fused,
}
#: Relative to the largest magnitude of a tensor: more is a change, less is rounding.
ROUNDING = 1e-5
#: Behind these a channel's mean is what it was, and the channels of a group change together.
_LEVELLING = {"InstanceNormalization"}
#: What they make carries several units on each channel, of which every place has one; or a state that some
#: places have and others not.
_BLURRING = {"DepthToSpace", "Where", "LSTM"}
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
    rng, (start,) = np.random.default_rng(0), session.get_inputs()
    words = start.type == "tensor(int64)"
    x = rng.integers(0, 7, start.shape) if words else rng.standard_normal(start.shape).astype(np.float32)
    outputs = [value.name for value in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {"x": x}), strict=True))


def hold_shrunk_to_masked(path: Path, random: Random, preset: str = "lookahead_channels") -> bool:
    """Halve the channels both ways; False where the graph offers none."""
    folder = path.parent
    request = {"preset": preset, "target": {"sparsity": 0.5}}
    recipe = resolve(RecipeRequest.model_validate(request), catalogue().preset_axes())
    parts, context = resolve_parts(recipe), Context(folder)
    network = load(path, LoadOptions(scratch=folder))
    try:
        graph = analyse(network, {}, recipe, context)
        plan = select(parts, network, graph, goal_of(parts, recipe), context)
    except (NothingPrunableError, InvalidRecipeError):
        return False
    small = Shrink().apply(plan, graph, network, folder)
    before, after = count_parameters(network, graph)[0], count_parameters(small, build(small))[0]
    assert before - after == removed_parameters(network, graph, plan)
    if after == before:
        return False
    small.save(folder / "small.onnx")
    full = load(path, LoadOptions(scratch=folder))
    zeroed = write_masked(Promise(network, graph, plan, shrinks=True), full, folder)
    masked, shrunk = ran(zeroed), ran(folder / "small.onnx")
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


def hold_heads_shrunk_to_masked(path: Path, random: Random) -> bool:
    """The same by whole attention heads."""
    return hold_shrunk_to_masked(path, random, "lookahead_heads")


def hold_maps_to_changes(path: Path, random: Random) -> None:
    """Perturb one output of one layer; the indices that change are those that the maps say."""
    folder = path.parent
    network = load(path, LoadOptions(scratch=folder))
    graph = build(network)
    layers = [layer for layer in graph.layers if layer.uses and not layer.view.quantization]
    if not layers:
        return
    layer = random.choice(layers)
    groups, outputs = layer.view.seen_shape()[:2]
    group, output = random.randrange(groups), random.randrange(outputs)
    followed = dict(_followed(graph))
    units = changed_units(graph, layer, group, output)
    unmoved: dict[ir.Value, Array] = {}
    mixed, levelled = _behind_statistics(graph), _behind(network, _LEVELLING)
    for trial in range(3):  # a change may round to none: what stays in all of three trials does not depend
        for value, moved in _moves(path, network, (layer, group, output), list(followed), trial):
            others = tuple(axis for axis in range(moved.ndim) if axis not in followed[value].axes)
            said, most = carried(followed[value], units), moved.max(axis=others)
            more = (most > ROUNDING)[~said].any()
            assert value in mixed | levelled or not more, f"{value.name}: more changes than said"
            unmoved[value] = unmoved.get(value, np.bool_(True)) & (most == 0) & said
        if not any(unmoved[value].any() for value in unmoved):
            return
    exact = unmoved.keys() - levelled - _following([n for n in network.structure.graph if _blurs(n, graph)])
    assert not [value.name for value in exact if unmoved[value].any()], "less changes than said"


def _moves(
    path: Path, network: Network, where: tuple[Layer, int, int], values: list[ir.Value], trial: int
) -> Iterator[tuple[ir.Value, Array]]:
    """How far each value moves, relative to its largest magnitude, when weights of one output change."""
    layer, group, output = where
    stored = network.read(layer.view.value)
    seen = np.array(layer.view.forward(stored))
    seen[group, output] += np.random.default_rng(1 + trial).uniform(0.2, 0.6, seen[group, output].shape)
    network.write(layer.view.value, np.ascontiguousarray(layer.view.back(seen)).astype(stored.dtype))
    network.save(path.parent / "other.onnx")
    network.write(layer.view.value, stored)
    names = [value.name or "" for value in values]
    before, after = ran(path, names), ran(path.parent / "other.onnx", names)
    for value, name in zip(values, names, strict=True):
        yield value, np.abs(after[name] - before[name]) / max(np.abs(before[name]).max(), 1e-30)


def _behind_statistics(graph: Graph) -> set[ir.Value]:
    """Values in which any channel may change with any other: behind norms, scores, sums over channels."""
    return _following([item.node for item in graph.summed])


def _behind(network: Network, operators: set[str]) -> set[ir.Value]:
    return _following([node for node in network.structure.graph if node.op_type in operators])


def _blurs(node: ir.Node, graph: Graph) -> bool:
    """True where several units stand on one channel, of which every place has one."""
    channels = graph.maps.get(node.outputs[0])
    along = node.attributes["axis"].as_int() if node.op_type == "Concat" else 1
    beside = (
        node.op_type in ("Concat", "Pad") and isinstance(channels, ChannelMap) and along not in channels.axes
    )
    return beside or node.op_type in _BLURRING


def _following(nodes: list[ir.Node]) -> set[ir.Value]:
    """What the nodes make, and all that is made of it."""
    found: set[ir.Value] = set()
    while nodes:
        for value in nodes.pop().outputs:
            if value not in found:
                found.add(value)
                nodes.extend(node for node, _ in value.uses())
    return found


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
@pytest.mark.parametrize("family", FAMILIES)
def test_shrunk_equals_masked_and_counts_are_right(family: str, random: Random, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hold_shrunk_to_masked(_drawn(family, random, steps, Path(folder)), random)


@SETTINGS
@given(random=st.randoms(use_true_random=False), steps=st.integers(3, 10))
@pytest.mark.parametrize("family", ["sequence", "fused"])
def test_heads_shrunk_equal_heads_masked(family: str, random: Random, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hold_heads_shrunk_to_masked(_drawn(family, random, steps, Path(folder)), random)


@SETTINGS
@given(random=st.randoms(use_true_random=False), steps=st.integers(3, 14))
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_say_what_a_perturbed_weight_changes(family: str, random: Random, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hold_maps_to_changes(_drawn(family, random, steps, Path(folder)), random)


def _drawn(family: str, random: Random, steps: int, folder: Path) -> Path:
    return save_model(FAMILIES[family](random, steps), folder / "m.onnx")


def _by_hand(family: str, first: int, count: int) -> int:
    """Seeds from `first` on, every check; prints what fails."""
    failed = cut = 0
    checks: list[Callable[[Path, Random], object]] = [hold_shrunk_to_masked, hold_maps_to_changes]
    checks += [hold_heads_shrunk_to_masked] if family in ("sequence", "fused") else []
    for seed in range(first, first + count):
        for check in checks:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = _drawn(family, Random(seed), 3 + seed % 18, Path(folder))
                    cut += bool(check(path, Random(seed)))
                except Exception as error:  # one graph's failure must not hide the next one's
                    failed += 1
                    text = f"{type(error).__name__} {str(error)[:300]}"
                    sys.stdout.write(f"{family} {seed} {check.__name__}: {text}\n")
                    sys.stdout.flush()
    sys.stdout.write(f"{family}: {count} graphs, {cut} cut, {failed} failures\n")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, _by_hand(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
