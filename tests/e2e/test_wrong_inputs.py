"""What a stranger gets wrong: a code that tells, an exit code that fits, and no traceback."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from demo.serving import Served
from tests.e2e import files
from tests.e2e.commands import lookahead

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 14000000\n"


def checkpoint() -> bytes:
    """What torch.save writes: a zip with a pickle and no code."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


NOT_MODELS: dict[str, tuple[bytes, str]] = {
    "text": (b"hello, this is not a model\n" * 20, "unsupported_format"),
    "nothing": (b"", "unsupported_format"),
    "Git LFS pointer": (LFS_POINTER, "unsupported_format"),
    "pickle": (b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00.", "unsupported_format"),
    "torch.save": (checkpoint(), "unsupported_format"),
    "a cut zip": (checkpoint()[:60], "unsupported_format"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "unsupported_format"),
}


@pytest.mark.parametrize("case", NOT_MODELS)
def test_files_that_are_no_model(service: Served, tmp_path: Path, case: str) -> None:
    content, code = NOT_MODELS[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    done = lookahead(service.url, "prune", path, "--preset", "lookahead", "--sparsity", "0.8")
    assert done.returncode == 1, done
    assert f"[{code}]" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and not (tmp_path / "model.pruned.onnx").exists()


USAGE: dict[str, tuple[list[str], str]] = {
    "an unknown preset": (["--preset", "best", "--sparsity", "0.8"], "best"),
    "sparsity two": (["--preset", "lookahead", "--sparsity", "2"], "--sparsity"),
    "sparsity one": (["--preset", "lookahead", "--sparsity", "1"], "sparsity"),
    "a negative sparsity": (["--preset", "lookahead", "--sparsity", "-0.5"], "--sparsity"),
    "no target": (["--preset", "lookahead"], "target"),
    "an unknown part": (["--set", "criterion.name=luck", "--sparsity", "0.5"], "luck"),
    "a parameter that is none": (
        ["--set", "criterion.name=lookahead", "--set", "criterion.colour=red", "--sparsity", "0.5"],
        "colour",
    ),
    "an input that is none": (["--preset", "lookahead", "--sparsity", "0.5", "--input", "x=a,b"], "x=a,b"),
}


@pytest.mark.parametrize("case", USAGE)
def test_orders_that_make_no_sense(service: Served, tmp_path: Path, case: str) -> None:
    arguments, named = USAGE[case]
    done = lookahead(service.url, "prune", files.onnx_file(tmp_path), *arguments, cwd=tmp_path)
    assert done.returncode == 2, done
    assert named in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.pruned.*"))


def test_a_file_that_is_not_there(service: Served, tmp_path: Path) -> None:
    done = lookahead(
        service.url, "prune", tmp_path / "missing.onnx", "--preset", "lookahead", "--sparsity", "0.8"
    )
    assert done.returncode == 2
    assert "missing.onnx" in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    done = lookahead("http://127.0.0.1:9", "jobs")
    assert done.returncode == 4
    assert "[unreachable]" in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_holds_nothing_to_prune(service: Served, tmp_path: Path) -> None:
    done = lookahead(service.url, "prune", relu_only(tmp_path), "--preset", "lookahead", "--sparsity", "0.8")
    assert done.returncode == 1
    assert "[invalid_model]" in done.stderr and "nothing to prune" in done.stderr


def relu_only(folder: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    path = folder / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_torchscript_without_shapes(service: Served, tmp_path: Path) -> None:
    path = files.torchscript_file(tmp_path)
    done = lookahead(service.url, "prune", path, "--preset", "lookahead", "--sparsity", "0.8")
    assert done.returncode != 0 and "[needs_inputs]" in done.stderr
    assert files.INPUT in done.stderr


def test_data_that_does_not_fit(service: Served, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((4, 9), np.float32))
    model = files.onnx_file(tmp_path)
    done = lookahead(service.url, "prune", model, "--sparsity", "0.5", "--data", path, cwd=tmp_path)
    assert done.returncode in (1, 2), done
    assert "[needs_dataset]" in done.stderr and "9" in done.stderr and "Traceback" not in done.stderr


UNKNOWN = {"show": "job_" + "0" * 26, "download": "job_" + "0" * 26, "cancel": "job_" + "0" * 26}


@pytest.mark.parametrize("command", UNKNOWN)
def test_a_job_that_is_not_there(service: Served, tmp_path: Path, command: str) -> None:
    done = lookahead(service.url, command, UNKNOWN[command], cwd=tmp_path)
    assert done.returncode == 2
    assert "[not_found]" in done.stderr and "Traceback" not in done.stderr
