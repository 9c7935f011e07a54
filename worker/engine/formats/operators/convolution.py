"""Convolutions of one to three spatial axes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.linear import requantised
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.windows import Window, split_padding, window

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolved(call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution that the call's attributes describe."""
    rank = x.dim() - 2
    if rank not in _CONVOLUTIONS:
        raise InvalidRecipeError(f"torch convolves one to three spatial axes, {call.name!r} has {rank}")
    geometry = window(call, x.shape[2:], w.shape[2:])
    padding = geometry.begins
    if not geometry.symmetric:
        x, padding = functional.pad(x, geometry.padding()), (0,) * rank
    groups = call.int("group", 1)
    made: Tensor = _CONVOLUTIONS[rank](x, w, bias, geometry.strides, padding, geometry.dilations, groups)
    return made


@operator("Conv")
def convolution(call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution."""
    return convolved(call, x, w, bias)


@operator("ConvTranspose")
def transposed(call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """The transpose of a convolution; pads and the output's shape may be given either way."""
    rank = x.dim() - 2
    if rank not in _TRANSPOSED:
        raise InvalidRecipeError(f"torch convolves one to three spatial axes, {call.name!r} has {rank}")
    strides, dilations = call.ints("strides") or (1,) * rank, call.ints("dilations") or (1,) * rank
    extra = call.ints("output_padding") or (0,) * rank
    shape = Window(tuple(w.shape[2:]), strides, dilations, (0,) * rank, (0,) * rank)
    begins, ends = _transposed_pads(call, x.shape[2:], shape, extra)
    groups = call.int("group", 1)
    if begins == ends and all(o < max(s, d) for o, s, d in zip(extra, strides, dilations, strict=True)):
        made: Tensor = _TRANSPOSED[rank](x, w, bias, strides, begins, extra, groups, dilations)
        return made
    full = _TRANSPOSED[rank](x, w, None, strides, 0, 0, groups, dilations)
    after = tuple(more - end for more, end in zip(extra, ends, strict=True))
    cut = functional.pad(
        full, [s for pair in zip(begins[::-1], after[::-1], strict=True) for s in (-pair[0], pair[1])]
    )
    return cut if bias is None else cut + bias.reshape(-1, *(1,) * rank)


def _transposed_pads(
    call: Call, sizes: Sequence[int], shape: Window, extra: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding to take away at both ends."""
    rank = len(sizes)
    automatic, wanted = call.string("auto_pad", "NOTSET"), call.ints("output_shape")
    pads = call.ints("pads") or (0,) * (2 * rank)
    if not wanted and automatic in ("NOTSET", "VALID"):
        return ((0,) * rank, (0,) * rank) if automatic == "VALID" else (pads[:rank], pads[rank:])
    targets = (
        wanted[-rank:]
        if wanted
        else [size * stride for size, stride in zip(sizes, shape.strides, strict=True)]
    )
    full = (
        stride * (size - 1) + more + extent
        for size, stride, more, extent in zip(sizes, shape.strides, extra, shape.extents, strict=True)
    )
    totals = tuple(one - target for one, target in zip(full, targets, strict=True))
    begins, ends = split_padding(tuple(max(0, one) for one in totals), upper=automatic == "SAME_UPPER")
    if not wanted:
        return begins, ends
    # An output larger than the input reaches is filled up at the end.
    return begins, tuple(end + min(0, total) for end, total in zip(ends, totals, strict=True))


@operator("ConvInteger", since=10)
def integer_convolution(
    call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """Convolution of 8-bit integers less their zero points, in 32 bits."""
    return convolved(call, _less(x, x_zero), _less(w, _filters(w_zero, w))).to(torch.int32)


@operator("QLinearConv", since=10)
def quantised_convolution(
    call: Call,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolution of quantised tensors, quantised again. The bias is of the product's scale."""
    whole = None if bias is None else bias.double()
    product = convolved(call, _less(x, x_zero), _less(w, _filters(w_zero, w)), whole)
    scale = x_scale * w_scale / y_scale
    scale = scale.reshape(-1, *(1,) * (x.dim() - 2)) if scale.numel() > 1 else scale
    return requantised(product, scale, y_zero, y_zero.dtype)


def _less(x: Tensor, zero: Tensor | None) -> Tensor:
    """Exact integers in float64, which torch convolves."""
    return x.double() if zero is None else x.double() - zero.double()


def _filters(zero: Tensor | None, w: Tensor) -> Tensor | None:
    """One number per filter, shaped to broadcast over it."""
    return zero.reshape(-1, *(1,) * (w.dim() - 1)) if zero is not None and zero.numel() > 1 else zero


@operator("Col2Im", since=18, sizes=True)
def columns_to_image(call: Call, columns: Value, image: Value, block: Value) -> Tensor:
    """Sums overlapping blocks back into an image of any number of spatial axes."""
    x, sizes, kernel = call.tensor_of(columns), call.ints_of(image), call.ints_of(block)
    geometry = window(call, sizes, kernel)
    padded = [s + b + e for s, b, e in zip(sizes, geometry.begins, geometry.ends, strict=True)]
    counts = [
        (size - extent) // stride + 1
        for size, extent, stride in zip(padded, geometry.extents, geometry.strides, strict=True)
    ]
    blocks = x.reshape(x.shape[0], -1, torch.Size(kernel).numel(), *counts)
    whole = x.new_zeros(x.shape[0], blocks.shape[1], *padded)
    for index in range(blocks.shape[2]):
        whole[(slice(None), slice(None), *_slices(index, geometry, counts))] += blocks[:, :, index]
    for axis, (begin, size) in enumerate(zip(geometry.begins, sizes, strict=True)):
        whole = whole.narrow(2 + axis, begin, size)
    return whole


def _slices(index: int, geometry: Window, counts: Sequence[int]) -> list[slice]:
    """Where the elements at one place of every block lie in the padded image."""
    slices = []
    for axis in reversed(range(len(counts))):
        index, offset = divmod(index, geometry.kernel[axis])
        start = offset * geometry.dilations[axis]
        slices.append(
            slice(start, start + (counts[axis] - 1) * geometry.strides[axis] + 1, geometry.strides[axis])
        )
    return slices[::-1]


@operator("DeformConv", since=19)
def deformable(
    call: Call, x: Tensor, w: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Convolution of what bilinear sampling finds at moved places (two spatial axes)."""
    if x.dim() != 4:
        raise InvalidRecipeError(f"deformable convolution is followed in two spatial axes, not {x.dim() - 2}")
    geometry = window(call, x.shape[2:], w.shape[2:])
    groups, moved = call.int("group", 1), call.int("offset_group", 1)
    batch, rows, columns = x.shape[0], offset.shape[2], offset.shape[3]
    points = geometry.kernel[0] * geometry.kernel[1]
    shifts = offset.reshape(batch * moved, points, 2, rows, columns)
    places = _regular(call, geometry, rows, columns, x.dtype) + shifts
    sampled = _bilinear(x.reshape(batch * moved, -1, *x.shape[2:]), places)
    if mask is not None:
        sampled = sampled * mask.reshape(batch * moved, 1, points, rows, columns)
    taps = sampled.reshape(batch, groups, -1, rows * columns)
    made = torch.matmul(w.reshape(groups, w.shape[0] // groups, -1), taps).reshape(batch, -1, rows, columns)
    return made if bias is None else made + bias.reshape(-1, 1, 1)


def _regular(call: Call, geometry: Window, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Row and column that every kernel element reads when nothing is moved: (points, 2, rows, columns)."""
    axes = [
        torch.arange(kernel, device=call.device)[:, None] * dilation
        + torch.arange(count, device=call.device)[None] * stride
        - begin
        for kernel, dilation, count, stride, begin in zip(
            geometry.kernel,
            geometry.dilations,
            (rows, columns),
            geometry.strides,
            geometry.begins,
            strict=True,
        )
    ]
    shape = (*geometry.kernel, rows, columns)
    down, across = axes[0][:, None, :, None].expand(shape), axes[1][None, :, None, :].expand(shape)
    return torch.stack([down, across], 2).reshape(-1, 2, rows, columns).to(dtype)


def _bilinear(x: Tensor, places: Tensor) -> Tensor:
    """Values of (B, C, H, W) at (B, points, 2, rows, columns), giving (B, C, points, rows, columns)."""
    batch, points, _, rows, columns = places.shape
    height, width = x.shape[2:]
    flat = x.reshape(batch, -1, height * width)
    base = places.detach().floor()
    along = places - base
    sampled = x.new_zeros(batch, flat.shape[1], points * rows * columns)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = base[:, :, 0] + down, base[:, :, 1] + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        vertical = along[:, :, 0] if down else 1 - along[:, :, 0]
        horizontal = along[:, :, 1] if right else 1 - along[:, :, 1]
        index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long().reshape(batch, 1, -1)
        corner = flat.gather(2, index.expand(-1, flat.shape[1], -1))
        sampled = sampled + corner * (vertical * horizontal * inside).reshape(batch, 1, -1)
    return sampled.reshape(batch, -1, points, rows, columns)
