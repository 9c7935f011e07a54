"""Random graphs over sequences (batch, positions, features): tables, norms, attention in several forms."""

from collections.abc import Sequence
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.engine.graph.random_graphs import RandomGraph, Step, model_of

LENGTH, VOCABULARY = 5, 7
Shape = tuple[int, ...]


def project(graph: RandomGraph, name: str, before: int, after: int) -> str:
    """A matrix product, its weight on the right, with or without a bias."""
    weight = graph.weight(before, after)
    made = graph.node("MatMul", [name, weight], (1, LENGTH, after))
    if graph.random.random() < 0.5:
        made = graph.node("Add", [made, graph.normal(after)], (1, LENGTH, after))
    return made


def linear(graph: RandomGraph) -> None:
    name, (_, _, features) = graph.pick(3)
    project(graph, name, features, graph.random.choice([8, 12]))


def feed_forward(graph: RandomGraph) -> None:
    """Up, activation, down, residual."""
    name, shape = graph.pick(3)
    up = project(graph, name, shape[2], 10)
    active = graph.node(graph.random.choice(["Sin", "LeakyRelu", "Softsign"]), [up], (1, LENGTH, 10))
    graph.node("Add", [name, project(graph, active, 10, shape[2])], shape)


def feed_gated(graph: RandomGraph) -> None:
    """One product split into two halves, of which one gates the other."""
    name, shape = graph.pick(3)
    wide = project(graph, name, shape[2], 12)
    halves = graph.split(wide, (1, LENGTH, 12), 2, (6, 6))
    gate = graph.node("Sigmoid", [halves[0]], (1, LENGTH, 6))
    both = graph.node("Mul", [gate, halves[1]], (1, LENGTH, 6))
    graph.node("Add", [name, project(graph, both, 6, shape[2])], shape)


def norm(graph: RandomGraph) -> None:
    name, shape = graph.pick(3)
    if shape[2] < 3:
        return
    op = graph.random.choice(["LayerNormalization", "RMSNormalization"])
    parts = [graph.positive(shape[2])] + ([graph.normal(shape[2])] if op[0] == "L" else [])
    graph.node(op, [name, *parts], shape, axis=-1, epsilon=0.1)


def norm_written_out(graph: RandomGraph) -> None:
    """Divided by the root mean square, then a slope for each feature."""
    name, shape = graph.pick(3)
    one = (*shape[:2], 1)
    if shape[2] < 3:
        return
    tiny = graph.constant(np.array(0.1, np.float32))
    square = graph.hidden("Mul", [name, name])
    mean = graph.hidden("ReduceMean", [square, graph.ints(-1)])
    root = graph.node("Sqrt", [graph.hidden("Add", [mean, tiny])], one)
    graph.values.pop()
    scaled = graph.node("Div", [name, root], shape)
    graph.node("Mul", [scaled, graph.positive(shape[2])], shape)


def activate(graph: RandomGraph) -> None:
    name, shape = graph.random.choice(graph.values)
    graph.node(graph.random.choice(["LeakyRelu", "Sin", "Softsign", "Identity"]), [name], shape)


def join(graph: RandomGraph) -> None:
    name, shape = graph.pick(3)
    others = [value for value, size in graph.values if size == shape]
    graph.node(graph.random.choice(["Add", "Mul"]), [name, graph.random.choice(others)], shape)


def concatenate(graph: RandomGraph) -> None:
    name, shape = graph.pick(3)
    other, size = graph.pick(3)
    if shape[2] + size[2] <= 24:
        graph.node("Concat", [name, other], (1, LENGTH, shape[2] + size[2]), axis=2)


def stand_token_beside(graph: RandomGraph) -> None:
    """A stored token before the others; the last positions are read on."""
    name, shape = graph.pick(3)
    token = graph.normal(1, 1, shape[2])
    longer = graph.hidden("Concat", [token, name], axis=1)
    moved = graph.hidden("Sin", [longer])
    graph.node("Slice", [moved, graph.ints(0), graph.ints(LENGTH), graph.ints(1)], shape)


def by_head(graph: RandomGraph, name: str, heads: int, width: int) -> str:
    """(1, positions, heads · width) as (1, heads, positions, width)."""
    apart = graph.reshape(name, (1, LENGTH, heads, width))
    return graph.node("Transpose", [apart], (1, heads, LENGTH, width), perm=[0, 2, 1, 3])


def rotate(graph: RandomGraph, name: str, heads: int, width: int) -> str:
    """Rotary positions: the operator, or written out over halves, all of the features or the first ones."""
    shape, way = (
        (1, heads, LENGTH, width),
        graph.random.choice(["operator", "halves", "neighbours", "partly", "none"]),
    )
    turned = width if way != "partly" else width // 2
    if way == "none" or turned % 2:
        return name
    if way == "operator":
        tables = [graph.positive_table(1, LENGTH, width // 2) for _ in range(2)]
        pairs = graph.random.randrange(2)
        return graph.node("RotaryEmbedding", [name, *tables], shape, interleaved=pairs)
    if way == "neighbours":
        return _rotate_neighbours(graph, name, shape)
    parts = [name]
    if turned < width:
        parts = graph.split(name, shape, 3, (turned, width - turned))
    inner = (1, heads, LENGTH, turned)
    left, right = graph.split(parts[0], inner, 3, (turned // 2, turned // 2))
    minus = graph.node("Neg", [right], (1, heads, LENGTH, turned // 2))
    crossed = graph.node("Concat", [minus, left], inner, axis=3)
    tables = [graph.positive_table(1, 1, LENGTH, turned) for _ in range(2)]
    first = graph.node("Mul", [parts[0], tables[0]], inner)
    second = graph.node("Mul", [crossed, tables[1]], inner)
    total = graph.node("Add", [first, second], inner)
    return total if turned == width else graph.node("Concat", [total, parts[1]], shape, axis=3)


def _rotate_neighbours(graph: RandomGraph, name: str, shape: Shape) -> str:
    """Neighbours turn together: every second feature, negated, stands before the one before it."""
    half, rank = (*shape[:3], shape[3] // 2), len(shape)
    one, all_of_it = (graph.ints(rank - 1), graph.ints(shape[3]))
    first = graph.node("Slice", [name, graph.ints(0), all_of_it, one, graph.ints(2)], half)
    second = graph.node("Slice", [name, graph.ints(1), all_of_it, one, graph.ints(2)], half)
    minus = graph.node("Neg", [second], half)
    wide = (*half, 1)
    pair = [graph.node("Unsqueeze", [part, graph.ints(rank)], wide) for part in (minus, first)]
    both = graph.node("Concat", pair, (*half, 2), axis=rank)
    crossed = graph.reshape(both, shape)
    tables = [graph.positive_table(1, 1, LENGTH, shape[3]) for _ in range(2)]
    turned = graph.node("Mul", [crossed, tables[0]], shape)
    straight = graph.node("Mul", [name, tables[1]], shape)
    return graph.node("Add", [straight, turned], shape)


def _repeated(graph: RandomGraph, name: str, heads: int, shared: int, width: int) -> str:
    if heads == shared or shared == 1:
        return name
    times = heads // shared
    one = graph.node("Unsqueeze", [name, graph.ints(2)], (1, shared, 1, LENGTH, width))
    several = (1, shared, times, LENGTH, width)
    wide = graph.node("Expand", [one, graph.ints(*several)], several)
    return graph.reshape(wide, (1, heads, LENGTH, width))


def attend(graph: RandomGraph) -> None:
    """Heads written out: as many of keys and values as of queries, fewer, or one for all."""
    name, shape = graph.pick(3)
    heads, width = graph.random.choice([2, 4]), graph.random.choice([2, 4])
    shared = graph.random.choice([heads, heads, 2, 1])
    query = by_head(graph, project(graph, name, shape[2], heads * width), heads, width)
    key, value = (
        by_head(graph, project(graph, name, shape[2], shared * width), shared, width) for _ in range(2)
    )
    query, key = rotate(graph, query, heads, width), rotate(graph, key, shared, width)
    key, value = (_repeated(graph, each, heads, shared, width) for each in (key, value))
    rows = heads if shared > 1 else 1
    turned = graph.node("Transpose", [key], (1, rows, width, LENGTH), perm=[0, 1, 3, 2])
    scores = graph.hidden("MatMul", [query, turned])
    if graph.random.random() < 0.5:
        scores = graph.hidden("Add", [scores, graph.normal(heads, LENGTH, LENGTH)])
    weights = graph.hidden("Softmax", [scores], axis=-1)
    _put_out(graph, (name, shape), graph.hidden("MatMul", [weights, value]), heads, width)


def _put_out(graph: RandomGraph, data: tuple[str, Shape], mixed: str, heads: int, width: int) -> None:
    """Heads side by side again, projected, added to what was read."""
    name, shape = data
    turned = graph.node("Transpose", [mixed], (1, LENGTH, heads, width), perm=[0, 2, 1, 3])
    flat = graph.reshape(turned, (1, LENGTH, heads * width))
    graph.node("Add", [name, project(graph, flat, heads * width, shape[2])], shape)


def attend_by_operator(graph: RandomGraph) -> None:
    """One product for query, key and value, and ONNX's Attention."""
    name, shape = graph.pick(3)
    heads, width = graph.random.choice([2, 4]), graph.random.choice([2, 4])
    size = heads * width
    wide = project(graph, name, shape[2], 3 * size)
    query, key, value = graph.split(wide, (1, LENGTH, 3 * size), 2, (size, size, size))
    if graph.random.random() < 0.5:
        made = graph.node(
            "Attention", [query, key, value], (1, LENGTH, size), q_num_heads=heads, kv_num_heads=heads
        )
        graph.node("Add", [name, project(graph, made, size, shape[2])], shape)
        return
    parts = [by_head(graph, each, heads, width) for each in (query, key, value)]
    _put_out(graph, (name, shape), graph.hidden("Attention", parts), heads, width)


def recur(graph: RandomGraph) -> None:
    """An LSTM in the middle: a boundary."""
    name, shape = graph.pick(3)
    state = 4
    steps = graph.node("Transpose", [name], (LENGTH, 1, shape[2]), perm=[1, 0, 2])
    graph.values.pop()
    weights = [graph.normal(1, 4 * state, shape[2]), graph.normal(1, 4 * state, state)]
    made = graph.hidden("LSTM", [steps, *weights], hidden_size=state)
    one = graph.hidden("Squeeze", [made, graph.ints(1)])
    graph.node("Transpose", [one], (1, LENGTH, state), perm=[1, 0, 2])


def mean_over_positions(graph: RandomGraph) -> None:
    """The mean over all positions, added to each of them."""
    name, shape = graph.pick(3)
    mean = graph.hidden("ReduceMean", [name, graph.ints(1)], keepdims=1)
    wide = graph.node("Expand", [mean, graph.ints(*shape)], shape)
    graph.node("Add", [wide, name], shape)


def convolve(graph: RandomGraph) -> None:
    """A convolution along the positions, plain or depthwise."""
    name, (_, _, features) = graph.pick(3)
    groups = graph.random.choice([1, features])
    outputs = features if groups > 1 else 8
    first = graph.node("Transpose", [name], (1, features, LENGTH), perm=[0, 2, 1])
    graph.values.pop()
    weight = graph.weight(outputs, features // groups, 3)
    made = graph.hidden("Conv", [first, weight, graph.normal(outputs)], group=groups, pads=[1, 1])
    graph.node("Transpose", [made], (1, LENGTH, outputs), perm=[0, 2, 1])


STEPS = (
    *(linear, feed_forward, norm, attend, attend) * 2,
    feed_gated,
    norm_written_out,
    activate,
    join,
    concatenate,
    stand_token_beside,
    attend_by_operator,
    recur,
    mean_over_positions,
    convolve,
)


def draw_sequence(random: Random, steps: int, ways: Sequence[Step] = STEPS) -> onnx.ModelProto:
    """Words and positions looked up in tables, about so many operators, then words again or a class."""
    graph = RandomGraph(random)
    features = random.choice([6, 8, 12])
    table = graph.normal(VOCABULARY, features)
    words = graph.hidden("Gather", [table, "x"], axis=0)
    places = graph.normal(1, LENGTH, features)
    graph.node("Add", [words, places], (1, LENGTH, features))
    for _ in range(steps):
        random.choice(ways)(graph)
    name, shape = [value for value in graph.values if len(value[1]) == 3][-1]
    if random.random() < 0.5:
        shape = (1, shape[2])
        name = graph.node("ReduceMean", [name, graph.ints(1)], shape, keepdims=0)
    weight = graph.weight(shape[-1], 3)
    classes = 3
    if shape[-1] == features and random.random() < 0.5:
        weight, classes = graph.hidden("Transpose", [table], perm=[1, 0]), VOCABULARY
    end = graph.hidden("MatMul", [name, weight])
    start = helper.make_tensor_value_info("x", TensorProto.INT64, [1, LENGTH])
    return model_of(graph, [start], {end: (*shape[:-1], classes)}, opset=23)
