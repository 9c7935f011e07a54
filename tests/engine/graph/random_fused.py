"""More steps of random graphs over sequences: ONNX Runtime's own operators."""

from random import Random

import numpy as np
import onnx

from tests.engine.graph.random_graphs import RandomGraph
from tests.engine.graph.random_sequences import LENGTH, STEPS, draw_sequence, project

_OWN = {"domain": "com.microsoft"}


def attend_inside(graph: RandomGraph) -> None:
    """Query, key and value by one matrix inside the operator, values sometimes of another size."""
    name, shape = graph.pick(3)
    heads, width = graph.random.choice([2, 4]), graph.random.choice([2, 4])
    sizes = [heads * width, heads * width, heads * graph.random.choice([width, 3])]
    named = {} if len(set(sizes)) == 1 else {"qkv_hidden_sizes": sizes}
    inputs = [name, graph.weight(shape[2], sum(sizes)), graph.normal(sum(sizes))]
    if graph.random.random() < 0.3:
        inputs += ["", "", graph.normal(1, heads, LENGTH, LENGTH)]
    made = graph.node("Attention", inputs, (1, LENGTH, sizes[2]), num_heads=heads, **named, **_OWN)
    project(graph, made, sizes[2], shape[2])


def attend_apart(graph: RandomGraph) -> None:
    """Query, key and value apart, with or without a joint bias, turned by positions or not."""
    name, shape = graph.pick(3)
    heads, width = 2, graph.random.choice([2, 4])
    size = heads * width
    parts = [project(graph, name, shape[2], size) for _ in range(3)]
    if graph.random.random() < 0.4:
        places = graph.constant(np.arange(LENGTH)[None])
        tables = [graph.positive_table(LENGTH, width // 2) for _ in range(2)]
        pairs = graph.random.randrange(2)
        for index in range(2):
            inputs = [parts[index], places, *tables]
            parts[index] = graph.node(
                "RotaryEmbedding", inputs, (1, LENGTH, size), interleaved=pairs, num_heads=heads, **_OWN
            )
    if graph.random.random() < 0.5:
        parts.append(graph.normal(3 * size))
    made = graph.node("MultiHeadAttention", parts, (1, LENGTH, size), num_heads=heads, **_OWN)
    graph.node("Add", [name, project(graph, made, size, shape[2])], shape)


def norm_a_sum(graph: RandomGraph) -> None:
    """A branch added and normed; the sum is sometimes read on."""
    name, shape = graph.pick(3)
    others = [value for value, size in graph.values if size == shape]
    plain = graph.random.random() < 0.5
    slopes = [graph.positive(shape[2])] + ([graph.normal(shape[2])] if plain else [])
    op = "SkipLayerNormalization" if plain else "SkipSimplifiedLayerNormalization"
    inputs = [name, graph.random.choice(others), *slopes]
    if graph.random.random() < 0.5:
        inputs.append(graph.normal(shape[2]))
    made = f"v{len(graph.nodes)}"
    outputs = [made] + (["", "", f"{made}.sum"] if graph.random.random() < 0.5 else [])
    graph.nodes.append(
        onnx.helper.make_node(op, inputs, outputs, name=f"{op}{len(graph.nodes)}", epsilon=0.1, **_OWN)
    )
    graph.values += [(output, shape) for output in outputs if output]


def feed_biased(graph: RandomGraph) -> None:
    """A product by FusedMatMul, turned and scaled, a bias inside the activation."""
    name, shape = graph.pick(3)
    scaled = graph.node(
        "FusedMatMul", [name, graph.weight(10, shape[2])], (1, LENGTH, 10), transB=1, alpha=0.7, **_OWN
    )
    active = graph.node("FastGelu", [scaled, graph.positive(10)], (1, LENGTH, 10), **_OWN)
    project(graph, active, 10, shape[2])


def draw_fused(random: Random, steps: int) -> onnx.ModelProto:
    """The same as a sequence, with ONNX Runtime's own operators among the others."""
    own = (attend_inside, attend_apart, norm_a_sum, feed_biased) * 5
    return draw_sequence(random, steps, STEPS + own)
