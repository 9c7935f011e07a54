"""Sizes and digests, against the libraries asked in one go."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import zstandard

from worker.engine.verify import measure_size

CONTENTS = {
    "empty": b"",
    "zeros": bytes(3 * 2**20 + 17),
    "noise": np.random.default_rng(0).bytes(2**21 + 5),
    "sparse": (np.random.default_rng(1).normal(size=2**18) * (np.random.default_rng(2).random(2**18) > 0.9))
    .astype(np.float32)
    .tobytes(),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_sizes_are_those_of_the_whole_file(tmp_path: Path, name: str) -> None:
    content = CONTENTS[name]
    (tmp_path / "f").write_bytes(content)
    found = measure_size(tmp_path / "f")
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    assert found.size_bytes == len(content)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.compressed_bytes == len(compressor.compress(content) + compressor.flush())


def test_zeros_compress_and_noise_does_not(tmp_path: Path) -> None:
    sizes = {}
    for name in ("zeros", "noise", "sparse"):
        (tmp_path / name).write_bytes(CONTENTS[name])
        found = measure_size(tmp_path / name)
        sizes[name] = found.compressed_bytes / found.size_bytes
    assert sizes["zeros"] < 0.01
    assert sizes["sparse"] < 0.3
    assert 0.99 < sizes["noise"] < 1.01
