"""Counts of n-grams against ONNX Runtime."""

import numpy as np
import pytest

from tests.engine.formats.operators.nodes import agree

_POOL = {
    "ngram_counts": [0, 4, 10],
    "ngram_indexes": [0, 2, 1, 6, 3, 5, 4],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}
_WEIGHTS = [0.5, 1.0, 2.0, 1.5, 0.25, 3.0, 1.25]


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("smallest", "largest"), [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize("shape", [(12,), (3, 6)])
def test_counts(mode, smallest, largest, skipped, shape):
    x = np.random.default_rng(1).integers(2, 9, shape)
    attributes = {
        "mode": mode,
        "min_gram_length": smallest,
        "max_gram_length": largest,
        "max_skip_count": skipped,
        **_POOL,
    }
    agree("TfIdfVectorizer", [x], attributes=attributes, opset=9)
    agree("TfIdfVectorizer", [x], attributes={**attributes, "weights": _WEIGHTS}, opset=9)
