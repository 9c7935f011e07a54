"""Choosing boxes among many that overlap."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("NonMaxSuppression", since=10)
def non_max_suppression(
    call: Call,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    threshold: Tensor | None = None,
) -> Tensor:
    """Boxes by falling score, without those that overlap a better one: rows of (sample, class, box)."""
    limit = 0 if most is None or not most.numel() else call.int_of(most)
    worst = 0.0 if overlap is None or not overlap.numel() else overlap.detach().item()
    corners = _corners(call, boxes.detach())
    found = []
    for sample in range(scores.shape[0]):
        for label, row in enumerate(scores[sample].detach()):
            order = torch.argsort(row, descending=True, stable=True)
            if threshold is not None and threshold.numel():
                order = order[row[order] > threshold.reshape(())]
            kept = _kept(corners[sample], order, limit, worst)
            found += [(sample, label, box) for box in kept]
    return torch.tensor(found, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _corners(call: Call, boxes: Tensor) -> Tensor:
    """The lower and the upper corner of each box, whichever way it was given."""
    if call.int("center_point_box", 0):
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat((middle - half, middle + half), dim=-1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat((torch.minimum(first, second), torch.maximum(first, second)), dim=-1)


def _kept(corners: Tensor, order: Tensor, limit: int, worst: float) -> list[int]:
    kept: list[int] = []
    while order.numel() and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[~_overlaps(corners[best], corners[order], worst)]
    return kept


def _overlaps(box: Tensor, others: Tensor, worst: float) -> Tensor:
    """Whether intersection over union exceeds the limit; never for boxes without area."""
    sides = torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])
    shared = sides.clamp(min=0).prod(dim=1)
    own, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(dim=1)
    union = own + areas - shared
    solid = (shared > 0) & (own > 0) & (areas > 0) & (union > 0)
    return solid & (shared / torch.where(solid, union, torch.ones_like(union)) > worst)
