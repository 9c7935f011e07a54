"""The demonstration, with one round of training: files as a user would bring them, one table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import demo.__main__ as story
from benchmarks.model_run import load_torchscript
from benchmarks.recount import tensors
from client.errors import LookaheadError
from demo import digits, export
from demo.serving import ServiceStartError, served


@pytest.fixture(scope="module")
def network() -> digits.DigitNet:
    torch.manual_seed(0)
    return digits.DigitNet().eval()


def test_held_out_digits_are_not_trained_on() -> None:
    data = digits.load()
    assert len(data.images) + len(data.held_out_images) == 1797
    seen = {image.numpy().tobytes() for image in data.images}
    assert sum(image.numpy().tobytes() in seen for image in data.held_out_images) <= 1
    assert set(data.held_out_targets.tolist()) == set(range(10))


def test_the_onnx_file_keeps_batch_norm_and_a_free_batch(network: digits.DigitNet, tmp_path: Path) -> None:
    model = onnx.load(export.write_onnx(network, tmp_path / "digits.onnx"))
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 2
    assert model.graph.input[0].name == export.INPUT
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert {o.version for o in model.opset_import if o.domain == ""} == {18}


def test_both_files_compute_what_the_network_does(network: digits.DigitNet, tmp_path: Path) -> None:
    import onnxruntime

    images = digits.load().held_out_images[:9]
    expected = network(images).detach().numpy()
    path = export.write_onnx(network, tmp_path / "digits.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {export.INPUT: images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    scripted = load_torchscript(export.write_torchscript(network, tmp_path / "digits.pt"))
    np.testing.assert_allclose(scripted(images).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def _briefly(method: story.Method) -> story.Method:
    """Healing in a few steps."""
    recovery = {"name": "auto", "steps": 20} if method.heals else {"name": "none"}
    return replace(method, recipe={**method.recipe, "recovery": recovery})


@pytest.mark.slow
def test_the_whole_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    monkeypatch.setattr(story, "_OUTPUT", tmp_path)
    monkeypatch.setattr(story, "METHODS", [_briefly(method) for method in story.METHODS])
    assert story.main() == 0
    shown = capsys.readouterr().out
    for file in ("digits.onnx", "digits.pt"):
        before = tensors(tmp_path / file)["hidden.weight"]
        for method in ("magnitude", "lookahead", "lookahead-healed"):
            after = tensors(tmp_path / f"digits-{method}{Path(file).suffix}")["hidden.weight"]
            assert (after == 0).sum() == before.size - round(before.size * (1 - 0.9))
        smaller = tensors(tmp_path / f"digits-half-the-channels{Path(file).suffix}")["hidden.weight"]
        assert smaller.size <= 0.3 * before.size
    assert shown.count("90.00%") == 6 and "not measured" not in shown
    assert len(list(tmp_path.glob("*.html"))) == 8


def test_a_failure_is_loud(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (LookaheadError("no luck", hint="try again", code="internal"), ServiceStartError("no port")):
        monkeypatch.setattr(story, "_demonstrate", lambda _output, error=error: (_ for _ in ()).throw(error))
        assert story.main() == 1
        assert str(error) in capsys.readouterr().err


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceStartError, match="max_attempts"),
        served(tmp_path, max_attempts="none"),
    ):
        raise AssertionError("it started")
