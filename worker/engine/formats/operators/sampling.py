"""Reading an image at free places: grids, and the regions of detectors."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator

#: ONNX's modes (opset 16 and since 20) as torch calls them.
_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@operator("GridSample", since=16)
def grid_sample(call: Call, inputs: Tensor, grid: Tensor) -> Tensor:
    """The input read at places from -1 to 1 along each axis."""
    if inputs.dim() == 3:
        # torch starts at two axes; the second is one element, read in its middle.
        flat = torch.cat((grid, torch.zeros_like(grid)), dim=-1).unsqueeze(1)
        return grid_sample(call, inputs.unsqueeze(2), flat).squeeze(2)
    mode = call.string("mode", "linear")
    return functional.grid_sample(
        inputs,
        grid,
        mode=_MODES.get(mode, mode),
        padding_mode=call.string("padding_mode", "zeros"),
        align_corners=bool(call.int("align_corners", 0)),
    )


@operator("AffineGrid", since=20, sizes=True)
def affine_grid(call: Call, theta: Value, size: Value) -> Tensor:
    """The places that an affine map gives to each place of an image."""
    maps, shape = call.tensor_of(theta), list(call.ints_of(size))
    return functional.affine_grid(maps, shape, bool(call.int("align_corners", 0)))


@operator("RoiAlign", since=10)
def roi_align_10(call: Call, inputs: Tensor, rois: Tensor, samples: Tensor) -> Tensor:
    """Regions whose corners are not moved by half a pixel."""
    return _roi_align(call, inputs, rois, samples, half_pixel=False)


@operator("RoiAlign", since=16)
def roi_align(call: Call, inputs: Tensor, rois: Tensor, samples: Tensor) -> Tensor:
    """Each region divided into bins, each bin the mean or largest of points inside it."""
    half_pixel = call.string("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    return _roi_align(call, inputs, rois, samples, half_pixel=half_pixel)


def _roi_align(call: Call, inputs: Tensor, rois: Tensor, samples: Tensor, *, half_pixel: bool) -> Tensor:
    height, width = call.int("output_height", 1), call.int("output_width", 1)
    corners = rois * call.float("spatial_scale", 1.0) - (0.5 if half_pixel else 0.0)
    pooled = []
    for corner, sample in zip(corners, call.ints_of(samples), strict=True):
        extent = corner[2:] - corner[:2]
        if not half_pixel:
            extent = extent.clamp(min=1.0)
        columns = _points(call, corner[0], extent[0], width)
        rows = _points(call, corner[1], extent[1], height)
        pooled.append(_pooled(call, _read(inputs[sample], rows, columns), (height, width)))
    if not pooled:
        return inputs.new_zeros(0, inputs.shape[1], height, width)
    return torch.stack(pooled)


def _points(call: Call, start: Tensor, extent: Tensor, bins: int) -> Tensor:
    """Coordinates of the points along one axis, those of the same bin beside each other."""
    per_bin = call.int("sampling_ratio", 0) or max(0, math.ceil(extent.detach().item() / bins))
    steps = torch.arange(bins * per_bin, dtype=start.dtype, device=start.device)
    return start + (steps + 0.5) * (extent / max(bins * per_bin, 1))


def _read(image: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """The four neighbours of each point times their weights, each (channels, rows, columns)."""
    (top, bottom, low), (left, right, near) = _around(rows, image.shape[1]), _around(columns, image.shape[2])
    corners = ((top, left), (top, right), (bottom, left), (bottom, right))
    weights = ((1 - low, 1 - near), (1 - low, near), (low, 1 - near), (low, near))
    inside = _inside(rows, image.shape[1]).unsqueeze(1) & _inside(columns, image.shape[2])
    return tuple(
        image[:, row][:, :, column] * (by_row.unsqueeze(1) * by_column * inside)
        for (row, column), (by_row, by_column) in zip(corners, weights, strict=True)
    )


def _inside(places: Tensor, length: int) -> Tensor:
    return (places >= -1) & (places <= length)


def _around(places: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The element before and after each place, and the share of the one after."""
    held = places.clamp(0, length - 1)
    before = held.detach().floor().long()
    return before, (before + 1).clamp(max=length - 1), held - before


def _pooled(call: Call, corners: tuple[Tensor, ...], bins: tuple[int, int]) -> Tensor:
    """Bins of points; `max` takes the largest weighted neighbour, as ONNX Runtime and the suite do."""
    mean = call.string("mode", "avg") == "avg"
    points = torch.stack(corners).sum(dim=0) if mean else torch.stack(corners).amax(dim=0)
    if not points.numel():
        return points.new_zeros(points.shape[0], *bins)
    grouped = points.reshape(points.shape[0], bins[0], -1, bins[1], points.shape[2] // bins[1])
    return grouped.mean(dim=(2, 4)) if mean else grouped.amax(dim=(2, 4))


@operator("MaxRoiPool")
def max_roi_pool(call: Call, inputs: Tensor, rois: Tensor) -> Tensor:
    """The largest element of each bin of each region; zero for an empty bin (Girshick 2015, Fast R-CNN)."""
    height, width = call.ints("pooled_shape")
    scale = call.float("spatial_scale", 1.0)
    # In single precision, as ONNX Runtime has it: it decides which way halves go.
    corners = rois[:, 1:].detach().float() * scale
    samples = rois[:, 0].detach().int().tolist()
    pooled = []
    for sample, corner in zip(samples, corners.tolist(), strict=True):
        left, top, right, bottom = (_rounded(edge) for edge in corner)
        image = inputs[sample]
        rows = _bins(top, bottom, height, image.shape[1])
        columns = _bins(left, right, width, image.shape[2])
        cells = [_largest(image, row, column) for row in rows for column in columns]
        pooled.append(torch.stack(cells, dim=1).reshape(-1, height, width))
    return torch.stack(pooled) if pooled else inputs.new_zeros(0, inputs.shape[1], height, width)


def _rounded(number: float) -> int:
    """To the nearest integer, halves away from zero."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def _bins(first: int, last: int, bins: int, length: int) -> list[tuple[int, int]]:
    """Start and end of each bin along one axis, cut to the image."""
    size = max(last - first + 1, 1) / bins
    edges = [(math.floor(place * size), math.ceil((place + 1) * size)) for place in range(bins)]
    return [(min(max(low + first, 0), length), min(max(high + first, 0), length)) for low, high in edges]


def _largest(image: Tensor, row: tuple[int, int], column: tuple[int, int]) -> Tensor:
    cell = image[:, row[0] : row[1], column[0] : column[1]]
    return cell.amax(dim=(1, 2)) if cell.numel() else image.new_zeros(image.shape[0])
