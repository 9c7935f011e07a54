"""More steps of random graphs over images (batch, channels, rows, columns): what exporters write around
convolutions."""

import numpy as np

from tests.engine.graph.random_graphs import RandomGraph


def deconvolve_in_groups(graph: RandomGraph) -> None:
    name, (_, channels, *sizes) = graph.pick(4)
    groups = graph.random.choice([group for group in (1, 2, 3, channels) if channels % group == 0])
    each = graph.random.choice([1, 2, 3])
    weight = graph.weight(channels, each, 3, 3)
    shape = (1, groups * each, *sizes)
    if shape[1] <= 24:
        graph.node("ConvTranspose", [name, weight, graph.normal(shape[1])], shape, group=groups, pads=[1] * 4)


def multiply_depthwise(graph: RandomGraph) -> None:
    """Depthwise, two outputs for each input."""
    name, (_, channels, *sizes) = graph.pick(4)
    if channels <= 12:
        shape = (1, 2 * channels, *sizes)
        graph.node("Conv", [name, graph.weight(2 * channels, 1, 1, 1)], shape, group=channels)


def convolve_behind(graph: RandomGraph) -> None:
    """A convolution whose weight stands behind other operators."""
    name, (_, channels, *sizes) = graph.pick(4)
    outputs = graph.random.choice([4, 6])
    graph.node("Conv", [name, graph.weight(outputs, channels, 1, 1)], (1, outputs, *sizes))


def depth_to_space(graph: RandomGraph) -> None:
    name, (_, channels, rows, columns) = graph.pick(4)
    if channels % 4 == 0 and rows <= 8:
        mode = graph.random.choice(["DCR", "CRD"])
        shape = (1, channels // 4, 2 * rows, 2 * columns)
        graph.node("DepthToSpace", [name], shape, blocksize=2, mode=mode)


def pixel_shuffle(graph: RandomGraph) -> None:
    """The same written out, in either order of channels."""
    name, (_, channels, rows, columns) = graph.pick(4)
    if channels % 4 or rows > 8:
        return
    kept = channels // 4
    if graph.random.random() < 0.5:
        parts, order = (1, kept, 2, 2, rows, columns), [0, 1, 4, 2, 5, 3]
    else:
        parts, order = (1, 2, 2, kept, rows, columns), [0, 3, 4, 1, 5, 2]
    apart = graph.reshape(name, parts)
    turned = graph.node("Transpose", [apart], tuple(parts[axis] for axis in order), perm=order)
    graph.reshape(turned, (1, kept, 2 * rows, 2 * columns))


def space_to_depth(graph: RandomGraph) -> None:
    name, (_, channels, rows, columns) = graph.pick(4)
    if channels <= 6 and rows % 2 == columns % 2 == 0 and rows >= 4:
        graph.node("SpaceToDepth", [name], (1, 4 * channels, rows // 2, columns // 2), blocksize=2)


def norm_by_instance(graph: RandomGraph) -> None:
    name, shape = graph.pick(4)
    graph.node(
        "InstanceNormalization", [name, graph.positive(shape[1]), graph.normal(shape[1])], shape, epsilon=0.1
    )


def norm_by_group(graph: RandomGraph) -> None:
    """As exporters write it before opset 18: an instance norm between two reshapes, then a slope."""
    name, shape = graph.pick(4)
    groups = graph.random.choice([group for group in (1, 2, 3) if shape[1] % group == 0])
    flat = graph.reshape(name, (1, groups, int(np.prod(shape[1:])) // groups))
    parts = [graph.positive(groups), graph.normal(groups)]
    normed = graph.node(
        "InstanceNormalization", [flat, *parts], (1, groups, int(np.prod(shape[1:])) // groups), epsilon=0.1
    )
    wide = graph.reshape(normed, shape)
    slope = graph.constant(np.linspace(0.5, 1.5, shape[1], dtype=np.float32).reshape(-1, 1, 1))
    graph.node("Mul", [wide, slope], shape)


def norm_channels(graph: RandomGraph) -> None:
    """A layer norm over the channels, between transposes."""
    name, (_, channels, rows, columns) = graph.pick(4)
    if channels == 1:
        return
    last = graph.node("Transpose", [name], (1, rows, columns, channels), perm=[0, 2, 3, 1])
    parts = [graph.positive(channels), graph.normal(channels)]
    normed = graph.node(
        "LayerNormalization", [last, *parts], (1, rows, columns, channels), axis=-1, epsilon=0.1
    )
    graph.node("Transpose", [normed], (1, channels, rows, columns), perm=[0, 3, 1, 2])


def gather_channels(graph: RandomGraph) -> None:
    """Some channels, in another order, now and then one twice."""
    name, (_, channels, *sizes) = graph.pick(4)
    wanted = [graph.random.randrange(channels) for _ in range(graph.random.choice([2, 4, 6]))]
    if graph.random.random() < 0.5:
        wanted = graph.random.sample(range(channels), channels)
    graph.node("Gather", [name, graph.ints(*wanted)], (1, len(wanted), *sizes), axis=1)


def pad_channels(graph: RandomGraph) -> None:
    name, (_, channels, *sizes) = graph.pick(4)
    before, after = graph.random.randrange(3), graph.random.randrange(3)
    pads = graph.ints(0, before, 0, 0, 0, after, 0, 0)
    graph.node("Pad", [name, pads], (1, channels + before + after, *sizes))


def choose(graph: RandomGraph) -> None:
    """Where, by a constant over the places."""
    name, shape = graph.pick(4)
    others = [value for value, size in graph.values if size == shape]
    places = np.arange(int(np.prod(shape[2:]))).reshape(shape[2:]) % 2 == 0
    graph.node("Where", [graph.constant(places), name, graph.random.choice(others)], shape)


def expand_pooled(graph: RandomGraph) -> None:
    """Averages laid out over all places, and added."""
    name, shape = graph.pick(4)
    if shape[1] == 1:
        return
    pooled = graph.node("GlobalAveragePool", [name], (1, shape[1], 1, 1))
    wide = graph.node("Expand", [pooled, graph.ints(*shape)], shape)
    graph.node("Add", [wide, name], shape)


def reduce_places(graph: RandomGraph) -> None:
    """A mean over rows and columns, without them or with, and back."""
    name, shape = graph.pick(4)
    if shape[1] == 1:
        return
    flat = graph.node("ReduceMean", [name], (1, shape[1]), axes=[2, 3], keepdims=0)
    again = graph.node("Unsqueeze", [flat, graph.ints(2, 3)], (1, shape[1], 1, 1))
    graph.node("Mul", [again, name], shape)


def attend_to_places(graph: RandomGraph) -> None:
    """Mean and largest over the channels, a convolution, a gate on every place."""
    name, (_, channels, *sizes) = graph.pick(4)
    op = graph.random.choice(["ReduceMean", "ReduceL2"])
    over = graph.node(op, [name], (1, 1, *sizes), axes=[1], keepdims=1)
    graph.values.pop()
    made = graph.node("Conv", [over, graph.weight(1, 1, 3, 3)], (1, 1, *sizes), pads=[1] * 4)
    graph.values.pop()
    gate = graph.node("Sigmoid", [made], (1, 1, *sizes))
    graph.values.pop()
    graph.node("Mul", [name, gate], (1, channels, *sizes))


def bend(graph: RandomGraph) -> None:
    """PRelu with a slope for each channel."""
    name, shape = graph.pick(4)
    slope = np.linspace(0.2, 0.6, shape[1], dtype=np.float32).reshape(-1, 1, 1)
    graph.node("PRelu", [name, graph.constant(slope)], shape)


def enlarge(graph: RandomGraph) -> None:
    name, (_, channels, rows, columns) = graph.pick(4)
    if rows > 8:
        return
    shape = (1, channels, 2 * rows, 2 * columns)
    if graph.random.random() < 0.5:
        scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
        graph.node("Resize", [name, "", scales], shape)
    else:
        graph.node("Resize", [name, "", "", graph.ints(*shape)], shape)


def multiply_from_the_left(graph: RandomGraph) -> None:
    """(outputs, channels) times (1, channels, places)."""
    name, (_, channels, rows, columns) = graph.pick(4)
    outputs = graph.random.choice([4, 6])
    flat = graph.reshape(name, (1, channels, rows * columns))
    made = graph.node("MatMul", [graph.weight(outputs, channels), flat], (1, outputs, rows * columns))
    graph.reshape(made, (1, outputs, rows, columns))


def contract(graph: RandomGraph) -> None:
    name, (_, channels, *sizes) = graph.pick(4)
    outputs = graph.random.choice([4, 6])
    weight = graph.weight(channels, outputs)
    graph.node("Einsum", [name, weight], (1, outputs, *sizes), equation="nchw,co->nohw")


def attend(graph: RandomGraph) -> None:
    """The non-local block without a residual."""
    name, (_, channels, rows, columns) = graph.pick(4)
    if rows > 8:
        return
    places, inner = rows * columns, graph.random.choice([4, 6])

    def project() -> str:
        made = graph.node("Conv", [name, graph.weight(inner, channels, 1, 1)], (1, inner, rows, columns))
        return graph.reshape(made, (1, inner, places))

    query, key, value = project(), project(), project()
    turned = graph.node("Transpose", [query], (1, places, inner), perm=[0, 2, 1])
    scores = graph.node("MatMul", [turned, key], (1, places, places))
    weights = graph.node("Softmax", [scores], (1, places, places), axis=-1)
    back = graph.node("Transpose", [weights], (1, places, places), perm=[0, 2, 1])
    mixed = graph.node("MatMul", [value, back], (1, inner, places))
    graph.reshape(mixed, (1, inner, rows, columns))


def recur(graph: RandomGraph) -> None:
    """An LSTM over the rows and columns: a boundary, whose features a matrix product reads."""
    name, (_, channels, rows, columns) = graph.pick(4)
    if rows > 8:
        return
    places, state = rows * columns, 4
    flat = graph.reshape(name, (1, channels, places))
    steps = graph.node("Transpose", [flat], (places, 1, channels), perm=[2, 0, 1])
    weights = [graph.normal(1, 4 * state, channels), graph.normal(1, 4 * state, state)]
    made = graph.hidden("LSTM", [steps, *weights], hidden_size=state)
    one = graph.hidden("Squeeze", [made, graph.ints(1)])
    turned = graph.node("Transpose", [one], (1, state, places), perm=[1, 2, 0])
    graph.reshape(turned, (1, state, rows, columns))


def concatenate_again(graph: RandomGraph) -> None:
    """The same value twice beside one another, with another between."""
    name, (_, channels, *sizes) = graph.pick(4)
    if 2 * channels <= 24:
        graph.node("Concat", [name, name], (1, 2 * channels, *sizes), axis=1)


def split_thrice(graph: RandomGraph) -> None:
    """Three slices of which two meet again (a Darknet neck); the third is read on."""
    name, (_, channels, *sizes) = graph.pick(4)
    if channels % 3 or channels < 3:
        return
    each = channels // 3
    parts = []
    for place in range(3):
        bounds = [graph.ints(place * each), graph.ints((place + 1) * each), graph.ints(1)]
        parts.append(graph.node("Slice", [name, *bounds], (1, each, *sizes)))
    graph.node("Add", parts[:2], (1, each, *sizes))


def shuffle_by_count(graph: RandomGraph) -> None:
    """Channel shuffle with sizes computed from the shape."""
    name, (_, channels, *sizes) = graph.pick(4)
    if channels % 2:
        return
    first, count, rows, columns = (graph.size(name, axis) for axis in range(4))
    half = graph.hidden("Div", [count, graph.ints(2)])
    parts = graph.hidden("Concat", [first, graph.ints(2), half, rows, columns], axis=0)
    apart = graph.node("Reshape", [name, parts], (1, 2, channels // 2, *sizes))
    turned = graph.node("Transpose", [apart], (1, channels // 2, 2, *sizes), perm=[0, 2, 1, 3, 4])
    whole = graph.hidden("Concat", [first, count, rows, columns], axis=0)
    graph.node("Reshape", [turned, whole], (1, channels, *sizes))


def flatten_and_back(graph: RandomGraph) -> None:
    """To (1, channels · places) by a computed size, and back by a fixed one."""
    name, shape = graph.pick(4)
    target = graph.hidden("Concat", [graph.size(name, 0), graph.ints(-1)], axis=0)
    flat = graph.node("Reshape", [name, target], (1, int(np.prod(shape[1:]))))
    graph.reshape(flat, shape)


IMAGE_STEPS = (
    deconvolve_in_groups,
    multiply_depthwise,
    convolve_behind,
    convolve_behind,
    depth_to_space,
    pixel_shuffle,
    space_to_depth,
    norm_by_instance,
    norm_by_group,
    norm_channels,
    gather_channels,
    pad_channels,
    choose,
    expand_pooled,
    reduce_places,
    attend_to_places,
    bend,
    enlarge,
    multiply_from_the_left,
    contract,
    attend,
    recur,
    concatenate_again,
    split_thrice,
    shuffle_by_count,
    flatten_and_back,
)
