"""Operators of classical feature preparation that take numbers: n-gram counts, thresholds, columns."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator

_ML = "ai.onnx.ml"


@operator("ArrayFeatureExtractor", domain=_ML)
def array_feature_extractor(call: Call, x: Tensor, places: Tensor) -> Tensor:
    """Columns of the last axis."""
    rows = x.reshape(1, -1) if x.dim() == 1 else x
    return rows.index_select(-1, places.reshape(-1))


@operator("Binarizer", domain=_ML)
def binarizer(call: Call, x: Tensor) -> Tensor:
    """One above the threshold, zero else."""
    return (x > call.float("threshold", 0.0)).to(x.dtype)


@operator("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(call: Call, x: Tensor) -> Tensor:
    """How often each n-gram of a pool occurs in each row, also with items left out between."""
    rows = x.reshape(1, -1) if x.dim() < 2 else x
    columns = call.ints("ngram_indexes")
    counts = rows.new_zeros(rows.shape[0], max(columns) + 1, dtype=torch.float32)
    found = torch.cat(
        [_counted(call, rows, size) for size in range(1, len(call.ints("ngram_counts")) + 1)], 1
    )
    places = torch.tensor(columns, device=x.device).expand(rows.shape[0], -1)
    counts = counts.scatter_add(1, places, found)
    weighted = _weighted(call, counts, columns)
    return weighted.reshape(-1) if x.dim() < 2 else weighted


def _counted(call: Call, rows: Tensor, size: int) -> Tensor:
    """Occurrences of the pool's n-grams of one size, (rows, n-grams)."""
    starts = (*call.ints("ngram_counts"), len(call.ints("pool_int64s")))
    grams = torch.tensor(call.ints("pool_int64s")[starts[size - 1] : starts[size]], device=rows.device)
    grams = grams.reshape(-1, size)
    total = rows.new_zeros(rows.shape[0], grams.shape[0], dtype=torch.float32)
    if not call.int("min_gram_length") <= size <= call.int("max_gram_length"):
        return total
    # A single item has nothing between its parts to leave out.
    for stride in range(1, 2 + (call.int("max_skip_count") if size > 1 else 0)):
        windows = rows.shape[1] - (size - 1) * stride
        if windows > 0:
            first = torch.arange(windows, device=rows.device).unsqueeze(1)
            seen = rows[:, first + torch.arange(size, device=rows.device) * stride]
            total = total + (seen.unsqueeze(2) == grams).all(dim=-1).sum(dim=1)
    return total


def _weighted(call: Call, counts: Tensor, columns: tuple[int, ...]) -> Tensor:
    mode = call.string("mode")
    values = counts if mode in ("TF", "TFIDF") else (counts > 0).to(counts.dtype)
    if mode == "TF" or not call.floats("weights"):
        return values
    # A weight belongs to an n-gram of the pool, which says its column.
    weights = torch.zeros(counts.shape[1], device=counts.device)
    weights[list(columns)] = torch.tensor(call.floats("weights"), device=counts.device)
    return values * weights
