"""Slice: runs of channels, with a step or backwards."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import Boundary, taken
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, SetOperand, surgery
from worker.engine.graph.trace import Trace, rule


@rule("Slice")
def slice_(node: ir.Node, trace: Trace) -> None:
    """Runs of channels with a step; opset 1–9 has the bounds as attributes."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if isinstance(channels, Boundary) or shape is None:
        trace.put(node.outputs[0], channels)
        return
    bounds = _bounds(node, trace, len(shape))
    if bounds is None:
        trace.stop(node, "a slice with bounds computed from data")
        return
    for start, end, axis, step in zip(*bounds, strict=True):
        size = shape[axis % len(shape)]
        if axis % len(shape) in channels.axes and size is not None:
            if step != 1:
                trace.freeze(channels, "taken with a step")
            channels = taken(channels, axis % len(shape), np.arange(size)[slice(*_clip(start, end, step))])
    trace.put(node.outputs[0], channels)


def _clip(start: int, end: int, step: int) -> tuple[int | None, int | None, int]:
    """ONNX writes 'to the very end' as huge numbers; downwards past 0 as a hugely negative end."""
    far = 2**31 - 1
    return start, None if end >= far or end <= -far else end, step


def _bounds(node: ir.Node, trace: Trace, rank: int) -> tuple[list[int], ...] | None:
    if "starts" in node.attributes:
        starts, ends = attribute(node, "starts"), attribute(node, "ends")
        return list(starts), list(ends), list(attribute(node, "axes", range(len(starts)))), [1] * len(starts)
    arrays = [trace.constants.array(value) for value in node.inputs[1:]]
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
    shape = operation.kept.graph.shapes.of(node.inputs[0]) or ()
    found = _slice_operands(node, operation)
    kept = operation.kept.axes(node.inputs[0])
    if found is None or not any(axis % len(shape) in kept for axis in found[2]):
        return
    starts, ends = list(found[0]), list(found[1])
    for place, axis in enumerate(found[2]):
        left, size = kept.get(axis % len(shape)), shape[axis % len(shape)]
        if left is not None and size is not None:
            low, high, _ = slice(starts[place], ends[place]).indices(size)
            starts[place], ends[place] = int(np.searchsorted(left, low)), int(np.searchsorted(left, high))
    if "starts" in node.attributes:
        yield SetAttribute(node, "starts", starts)
        yield SetAttribute(node, "ends", ends)
    else:
        yield SetOperand(node, 1, np.array(starts, dtype=np.int64))
        yield SetOperand(node, 2, np.array(ends, dtype=np.int64))


def _slice_operands(node: ir.Node, operation: Operation) -> tuple[list[int], ...] | None:
    if "starts" in node.attributes:
        starts = attribute(node, "starts")
        return list(starts), list(attribute(node, "ends")), list(attribute(node, "axes", range(len(starts))))
    arrays = [operation.constants.array(value) for value in node.inputs[1:4]]
    if arrays[0] is None or arrays[1] is None:
        return None
    axes = range(arrays[0].size) if len(arrays) < 3 or arrays[2] is None else arrays[2].tolist()
    return arrays[0].tolist(), arrays[1].tolist(), list(axes)
