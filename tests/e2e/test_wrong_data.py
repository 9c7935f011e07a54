"""Data that cannot be used: each fault has a code of its own, nothing crashes, right data goes through."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client import Lookahead
from client.errors import LookaheadError
from demo.serving import Served
from tests.e2e import files
from tests.e2e.commands import answer, lookahead
from tests.engine import chains
from tests.engine.data.pictures import png, zipped

ROWS = files.ROWS
LABELS = np.arange(ROWS) % 5


def pixels(**changes: Any) -> np.ndarray:
    """Rows that fit; `value` is put into one place of a late row."""
    values = np.random.default_rng(0).standard_normal((ROWS, 3, 8, 8)).astype(np.float32)
    if "value" in changes:
        values[-1, 0, 0, 0] = changes["value"]
    return values


class Pickled:
    """Would run code, were it unpickled."""

    def __reduce__(self) -> Any:
        return (exit, (1,))


PICKLED = np.array([Pickled()] * ROWS, dtype=object)
WRONG: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "a missing input": ({"a": pixels(), "b": pixels()}, "needs_dataset"),
    "a wrong shape": ({"x": pixels()[:, :, :7]}, "needs_dataset"),
    "a wrong dtype": ({"x": pixels().astype(np.uint8)}, "wrong_dtype"),
    "NaN": ({"x": pixels(value=np.nan)}, "not_finite"),
    "infinity": ({"x": pixels(value=np.inf)}, "not_finite"),
    "numbers too large": ({"x": pixels().astype(np.float64) * 1e300}, "not_finite"),
    "NaN among the targets": ({"x": pixels(), "targets": np.full((ROWS, 5), np.nan)}, "not_finite"),
    "pickled arrays": ({"x": PICKLED}, "pickled_data"),
    "pickled targets": ({"x": pixels(), "targets": PICKLED}, "pickled_data"),
    "labels beyond the classes": ({"x": pixels(), "targets": LABELS + 1}, "labels_out_of_range"),
    "labels below zero": ({"x": pixels(), "targets": LABELS - 1}, "labels_out_of_range"),
    "targets that fit nothing": ({"x": pixels(), "targets": np.zeros((ROWS, 9), int)}, "needs_labels"),
    "rows that differ": ({"x": pixels(), "targets": LABELS[1:]}, "invalid_dataset"),
    "text": ({"x": np.array(["a"] * ROWS)}, "invalid_dataset"),
    "no rows": ({"x": pixels()[:0]}, "too_few_rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_has_a_code_of_its_own(service: Served, tmp_path: Path, case: str) -> None:
    arrays, code = WRONG[case]
    np.savez(tmp_path / "data.npz", **arrays)
    model = files.onnx_file(tmp_path)
    done = lookahead(
        service.url, "prune", model, "--sparsity", "0.5", "--data", tmp_path / "data.npz", cwd=tmp_path
    )
    assert done.returncode in (1, 2), done
    assert f"[{code}]" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.pruned.*"))


def test_what_headers_tell_is_refused_before_it_is_queued(client: Lookahead, tmp_path: Path) -> None:
    model = client.upload_model(files.onnx_file(tmp_path))
    client.validate(model.id, sparsity=0.5)  # waits for a worker, and with it for the inspection
    before = len(client.jobs().items)
    for case in ("a missing input", "a wrong shape", "a wrong dtype"):
        arrays, code = WRONG[case]
        np.savez(tmp_path / "data.npz", **arrays)
        dataset = client.upload_dataset(tmp_path / "data.npz")
        with pytest.raises(LookaheadError) as caught:
            client.submit(model.id, dataset_id=dataset.id, sparsity=0.5)
        assert caught.value.code == code
    assert len(client.jobs().items) == before


def test_one_row_is_compared_but_not_learnt_from(service: Served, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=pixels()[:1])
    model = files.onnx_file(tmp_path)
    command = ["prune", model, "--sparsity", "0.5", "--data", tmp_path / "data.npz"]
    done = lookahead(service.url, *command, "--set", "criterion.name=wanda", cwd=tmp_path)
    assert done.returncode in (1, 2) and "[too_few_rows]" in done.stderr, done
    done = lookahead(service.url, *command, "--set", "recovery.name=none", "--json", cwd=tmp_path)
    assert answer(done)["job"]["summary"]["output_cosine"] is not None


def test_a_million_tiny_rows(service: Served, tmp_path: Path) -> None:
    rows = 10**6
    values = np.random.default_rng(0).standard_normal((rows, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=values, targets=(values[:, 0] > 0).astype(np.int64))
    model = chains.mlp(tmp_path / "tiny.onnx", [2, 8, 2]).path
    command = ["prune", model, "--sparsity", "0.3", "--data", tmp_path / "data.npz", "--json"]
    done = answer(lookahead(service.url, *command, "--set", "criterion.name=wanda", cwd=tmp_path))
    assert done["job"]["summary"]["accuracy_before"] is not None


def jpeg(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_zip_of_images_is_data_with_labels(service: Served, tmp_path: Path) -> None:
    names = {"a": jpeg((200, 0, 0)), "b": png((0, 200, 0)), "c": jpeg((0, 0, 200)), "d": png(7), "e": png(99)}
    members = {f"train/{name}/{row}.jpg": data for name, data in names.items() for row in range(4)}
    data = zipped(tmp_path / "pictures.zip", members, {"mean": [0.5], "std": [0.25]})
    model = files.onnx_file(tmp_path)
    command = ["prune", model, "--sparsity", "0.3", "--data", data, "--set", "recovery.name=none", "--json"]
    summary = answer(lookahead(service.url, *command, cwd=tmp_path))["job"]["summary"]
    assert summary["accuracy_before"] is not None


def test_an_image_that_cannot_be_decoded_is_named(service: Served, tmp_path: Path) -> None:
    members = {f"{name}/{row}.png": png(9) for name in "ab" for row in range(4)}
    data = zipped(tmp_path / "pictures.zip", members | {"b/2.png": png(9)[:40]})
    done = lookahead(
        service.url, "prune", files.onnx_file(tmp_path), "--sparsity", "0.5", "--data", data, cwd=tmp_path
    )
    assert done.returncode == 1, done
    assert "[invalid_dataset]" in done.stderr and "b/2.png" in done.stderr
