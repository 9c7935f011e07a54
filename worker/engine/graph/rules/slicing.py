"""Slice: runs of channels, with a step or backwards."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import Boundary, ChannelMap, Channels, Ints, taken
from worker.engine.graph.constants import Constants, attribute
from worker.engine.graph.stored import features
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, SetOperand, surgery
from worker.engine.graph.trace import Trace, rule


@rule("Slice")
def slice_(node: ir.Node, trace: Trace) -> None:
    """Runs of channels with a step; opset 1–9 has the bounds as attributes."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if trace.constants.view(node.inputs[0]) is not None:
        trace.put(node.outputs[0], _rows(node, trace))
        return
    if isinstance(channels, Boundary) or shape is None:
        trace.put(node.outputs[0], channels)
        return
    found = _bounds(node, trace.constants, len(shape))
    if found is None:
        trace.stop(node, "a slice with bounds computed from data")
        return
    for start, end, axis, step in zip(*found, strict=True):
        size = shape[axis % len(shape)]
        if axis % len(shape) in channels.axes and size is not None:
            indices = np.arange(size)[slice(*_clip(start, end, step))]
            _keep_steps(trace, channels, axis % len(shape), indices, step)
            channels = taken(channels, axis % len(shape), indices)
    trace.put(node.outputs[0], channels)


def _rows(node: ir.Node, trace: Trace) -> Channels:
    """Rows of a stored table, as many as the data is long; what is taken by constants alone is a constant."""
    found, whole = features(node, trace), trace.shape(node.inputs[0])
    rows = trace.shape(node.outputs[0])
    if trace.constants.is_fixed(node.outputs[0]) or isinstance(found, Boundary):
        return Boundary("a constant")
    same = whole is not None and rows is not None and all(whole[axis] == rows[axis] for axis in found.axes)
    return found if same else Boundary("a part of a constant")


def _keep_steps(trace: Trace, channels: ChannelMap, axis: int, indices: Ints, step: int) -> None:
    """With a step, what it passes over goes with what it takes; a run taken backwards asks for nothing."""
    size, width = channels.sizes[channels.axes.index(axis)], abs(step)
    if width == 1:
        return
    if step < 0 or size % width or len(indices) != size // width:
        trace.freeze(channels, "taken with a step")
        return
    grid = np.moveaxis(
        np.arange(int(np.prod(channels.sizes))).reshape(channels.sizes), channels.axes.index(axis), 0
    ).reshape(size // width, width, -1)
    trace.tie(channels, np.broadcast_to(grid[:, :1], grid.shape), channels, grid)


def _clip(start: int, end: int, step: int) -> tuple[int | None, int | None, int]:
    """ONNX writes 'to the very end' as huge numbers; downwards past 0 as a hugely negative end."""
    far = 2**31 - 1
    return start, None if end >= far or end <= -far else end, step


def _bounds(node: ir.Node, constants: Constants, rank: int) -> tuple[list[int], ...] | None:
    if "starts" in node.attributes:
        starts, ends = attribute(node, "starts"), attribute(node, "ends")
        return list(starts), list(ends), list(attribute(node, "axes", range(len(starts)))), [1] * len(starts)
    arrays = [constants.array(value) for value in node.inputs[1:]]
    arrays += [None] * (4 - len(arrays))
    if arrays[0] is None or arrays[1] is None:
        return None
    count = arrays[0].size
    axes = range(rank)[:count] if arrays[2] is None else arrays[2].tolist()
    steps = [1] * count if arrays[3] is None else arrays[3].tolist()
    return arrays[0].tolist(), arrays[1].tolist(), list(axes), steps


@surgery("Slice")
def cut_slice(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Bounds along the channels count what is left before them."""
    if operation.constants.view(node.inputs[0]) is not None:
        yield from operation.broadcast(node, 0, node.outputs[0])
        return
    shape = operation.kept.graph.shapes.of(node.inputs[0]) or ()
    found = _bounds(node, operation.constants, len(shape))
    kept = operation.kept.axes(node.inputs[0])
    if found is None or not any(axis % len(shape) in kept for axis in found[2]):
        return
    starts, ends, axes, steps = (list(numbers) for numbers in found)
    for place, axis in enumerate(axes):
        left, size = kept.get(axis % len(shape)), shape[axis % len(shape)]
        if left is not None and size is not None:
            run = slice(*_clip(starts[place], ends[place], steps[place]))
            starts[place], ends[place] = _moved(run, left, size)
    if "starts" in node.attributes:
        yield SetAttribute(node, "starts", starts)
        yield SetAttribute(node, "ends", ends)
    else:
        known = operation.constants.array(node.inputs[1])  # all bounds are of one type, int32 or int64
        dtype = np.dtype(np.int64) if known is None else known.dtype
        yield SetOperand(node, 1, np.array(starts, dtype=dtype))
        yield SetOperand(node, 2, np.array(ends, dtype=dtype))


def _moved(run: slice, left: Ints, size: int) -> tuple[int, int]:
    """Start and end of a run among the indices that are left."""
    start, end, step = run.indices(size)
    if step > 1:  # whole blocks of so many are left, so every block still begins at a multiple
        return start, len(left)
    if step == 1:
        return int(np.searchsorted(left, start)), int(np.searchsorted(left, end))
    last = int(np.searchsorted(left, end, side="right"))
    return int(np.searchsorted(left, start, side="right")) - 1, last - 1 if last else -(2**31)
