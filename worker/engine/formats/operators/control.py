"""Control flow, run eagerly: the condition is read on the host, the body called as often as it says."""

from typing import Any

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes


@operator("If", sizes=True)
def if_(call: Call, condition: Value) -> tuple[Any, ...]:
    """One of two bodies."""
    return call.graph("then_branch" if call.int_of(condition) else "else_branch")()


@operator("Loop", sizes=True)
def loop(call: Call, limit: Value, condition: Value, *carried: Value) -> tuple[Any, ...]:
    """A body repeated while its condition holds, at most `limit` times; what it yields is stacked."""
    body = call.graph("body")
    most = None if limit is None else call.int_of(limit)
    going = condition is None or bool(call.int_of(condition))
    state: tuple[Value, ...] = carried
    rows: list[tuple[Value, ...]] = []
    step = 0
    while going and (most is None or step < most):
        found = body(Sizes((step,), rank=0), Sizes((int(going),), rank=0, dtype=torch.bool), *state)
        going = bool(call.int_of(found[0]))
        state = found[1 : 1 + len(carried)]
        rows.append(found[1 + len(carried) :])
        step += 1
    return (*state, *_stacked(call, rows, call.outputs - len(carried), 0))


def _stacked(call: Call, rows: list[tuple[Value, ...]], count: int, axis: int) -> list[Tensor]:
    """What each step yielded, along a new axis."""
    if not rows:
        # Nothing ran, so nothing says the shape; ONNX Runtime gives an empty tensor as well.
        return [torch.empty(0, device=call.device) for _ in range(count)]
    return [torch.stack([call.tensor_of(row[place]) for row in rows], axis) for place in range(count)]


@operator("Scan", since=9)
def scan(call: Call, *inputs: Tensor) -> tuple[Any, ...]:
    """A body called with each slice of the scanned inputs, carrying its state from one to the next."""
    scanned = call.int("num_scan_inputs")
    carried = len(inputs) - scanned
    axes = call.ints("scan_input_axes", (0,) * scanned)
    backwards = call.ints("scan_input_directions", (0,) * scanned)
    columns = []
    for value, axis, backward in zip(inputs[carried:], axes, backwards, strict=True):
        slices = value.unbind(axis)
        columns.append(slices[::-1] if backward else slices)
    state: tuple[Value, ...] = inputs[:carried]
    rows: list[tuple[Value, ...]] = []
    for slices in zip(*columns, strict=True):
        found = call.graph("body")(*state, *slices)
        state, yielded = found[:carried], found[carried:]
        rows.append(yielded)
    return (*state, *_joined(call, rows, call.outputs - carried))


def _joined(call: Call, rows: list[tuple[Value, ...]], count: int) -> list[Tensor]:
    axes = call.ints("scan_output_axes", (0,) * count)
    backwards = call.ints("scan_output_directions", (0,) * count)
    joined = []
    for place in range(count):
        column: list[tuple[Value, ...]] = [(row[place],) for row in rows]
        ordered = column[::-1] if backwards[place] else column
        joined += _stacked(call, ordered, 1, axes[place])
    return joined


@operator("Scan", since=7)
def scan_batched(call: Call, lengths: Tensor | None, *inputs: Tensor) -> tuple[Any, ...]:
    """Scan as opset 8 had it: each sample of a leading batch axis by itself, up to its own length."""
    scanned = call.int("num_scan_inputs")
    carried = len(inputs) - scanned
    backwards = call.ints("directions", (0,) * scanned)
    samples = []
    for sample in range(inputs[0].shape[0]):
        state: tuple[Value, ...] = tuple(value[sample] for value in inputs[:carried])
        end = inputs[-1].shape[1] if lengths is None else call.ints_of(lengths)[sample]
        rows: list[tuple[Value, ...]] = []
        for step in range(end):
            slices = [
                value[sample, end - 1 - step if backward else step]
                for value, backward in zip(inputs[carried:], backwards, strict=True)
            ]
            found = call.graph("body")(*state, *slices)
            state, yielded = found[:carried], found[carried:]
            rows.append(yielded)
        longest = inputs[-1].shape[1]
        padded = [_padded(each, longest) for each in _stacked(call, rows, call.outputs - carried, 0)]
        samples.append((*(call.tensor_of(value) for value in state), *padded))
    return tuple(torch.stack(column) for column in zip(*samples, strict=True))


def _padded(steps: Tensor, length: int) -> Tensor:
    """Zeros after the last step, up to the length of the longest sample."""
    missing = steps.new_zeros(length - steps.shape[0], *steps.shape[1:])
    return torch.cat((steps, missing)) if missing.shape[0] else steps
