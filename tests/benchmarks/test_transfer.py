"""The big upload is a model that ONNX takes, and a small run of the whole benchmark holds its promise."""

import zipfile
from pathlib import Path

import onnx

from benchmarks import transfer


def test_the_file_is_a_valid_model_with_external_data(tmp_path: Path) -> None:
    path = transfer.big_model(tmp_path, size=2 << 20)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    (weight,) = onnx.load(tmp_path / "model.onnx").graph.initializer
    assert len(weight.raw_data) == 2 << 20


def test_memory_stays_flat(tmp_path: Path) -> None:
    size, transfers = transfer.measure(tmp_path, size=150_000_000)
    assert size > 149_000_000
    assert [item.name for item in transfers] == ["cp", "upload", "download"]
    assert all(item.growth < 64_000_000 for item in transfers[1:])
