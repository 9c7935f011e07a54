"""The real models beside the checkout: in torch they give what ONNX Runtime and TorchScript give."""

import gzip
import zipfile

import numpy as np
import pytest
import torch

from api_schemas.jobs import InputSpec
from tests.engine.formats.files import SHARED, needs_shared
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats import LoadOptions, load, runner
from worker.engine.formats.graph_module import graph_module

pytestmark = [pytest.mark.shared, needs_shared]

BARE = sorted(
    path for path in SHARED.iterdir() if path.name.endswith((".onnx", ".onnx.gz")) or path.is_dir()
) if SHARED.is_dir() else []  # fmt: skip
MODELS = [path for path in BARE if path.name not in ("negative", "torchscript")]
TORCH = {
    "cnn_mnist_scripted.pt": {"x": InputSpec(shape=[1, 1, 28, 28])},
    "g1_motion_lstm.pt": {"x": InputSpec(shape=[1, 47])},
    "reddit_bytelstm.pt": {"byte_input": InputSpec(shape=[1, 20], dtype="int64")},
    "silero_vad.jit": {"x": InputSpec(shape=[1, 512]), "sr": InputSpec(value=16000)},
}
#: Inputs whose open dimensions cannot be chosen freely.
OPEN = {
    ("speech_silero_vad_If_lstm.onnx", "input"): (1, 576),
    ("speech_silero_vad_If_lstm.onnx", "state"): (2, 1, 128),
    ("ocr_det_ppocrv2.onnx", "x"): (1, 3, 160, 160),
}
#: Below this, sigmoids of ONNX Runtime, which are approximations, differ from exact ones.
SMALL = 5e-7


def unpacked(path, folder):
    """The file that a user would upload."""
    if path.is_dir():
        made = folder / f"{path.name}.zip"
        with zipfile.ZipFile(made, "w") as archive:
            for member in sorted(path.iterdir()):
                archive.write(member, member.name)
        return made
    if path.suffix == ".gz":
        made = folder / path.stem
        made.write_bytes(gzip.decompress(path.read_bytes()))
        return made
    return path


def drawn(info, path, rng):
    """Random values for an input."""
    open_shape = [
        size if isinstance(size, int) else 1 if axis == 0 else 32 for axis, size in enumerate(info.shape)
    ]
    shape = OPEN.get((path.name, info.name), open_shape)
    if info.name == "sr":
        return np.array(16000, info.dtype)
    if np.dtype(info.dtype).kind == "f":
        return rng.random(shape).astype(info.dtype)
    return rng.integers(0, 2, shape).astype(info.dtype)


def share(found: torch.Tensor, wanted: np.ndarray) -> float:
    """The largest difference as a share of the largest magnitude."""
    found = found.detach().numpy().astype(wanted.dtype).astype(np.float64)
    assert found.shape == wanted.shape
    wide = wanted.astype(np.float64)
    over = np.clip(np.abs(found - wide) - SMALL, 0, None)
    return float(over.max() / max(np.abs(wide).max(), 1e-30)) if wide.size else 0.0


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_onnx_models_agree_with_onnx_runtime(path, tmp_path):
    file = unpacked(path, tmp_path)
    network = load(file, LoadOptions(scratch=tmp_path))
    ready = runner(file, LoadOptions(scratch=tmp_path), 1)
    rng = np.random.default_rng(0)
    feeds = {info.name: drawn(info, path, rng) for info in network.inputs}
    module = graph_module(network)
    with torch.no_grad():
        found = module(*(torch.tensor(feeds[name]) for name in module.input_names))
    for ours, theirs in zip(found, ready.run(feeds), strict=True):
        assert share(ours, theirs) < 1e-4


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_everything_that_can_be_trained_is_reached_by_gradients(path, tmp_path):
    network = load(unpacked(path, tmp_path), LoadOptions(scratch=tmp_path))
    trainable = network.trainable()
    rng = np.random.default_rng(0)
    feeds = {info.name: drawn(info, path, rng) for info in network.inputs}
    outputs = trainable.module(*(torch.tensor(feeds[name]) for name in trainable.input_names))
    floating = [one for one in outputs if one.is_floating_point() and one.requires_grad]
    whole = [one for one in outputs if not one.is_floating_point()]
    assert floating or whole or not trainable.parameters
    if floating and trainable.parameters:
        sum(one.square().sum() for one in floating).backward()
        reached = [p for p in trainable.parameters.values() if p.grad is not None]
        assert len(reached) >= 0.5 * len(trainable.parameters)  # the other branch of an If gets none
        assert all(torch.isfinite(p.grad).all() for p in reached)


@pytest.mark.parametrize("name", TORCH)
def test_structures_of_torchscript_models_compute_what_the_models_do(name, tmp_path):
    path, options = SHARED / "torchscript" / name, LoadOptions(inputs=TORCH[name], scratch=tmp_path)
    network = load(path, options)
    try:
        module = graph_module(network)
    except InvalidRecipeError as refusal:
        assert "cannot follow" in str(refusal)
        assert name != "cnn_mnist_scripted.pt"
        return
    ready = runner(path, options, 1)
    rng = np.random.default_rng(0)
    feeds = {info.name: drawn(info, path, rng) for info in network.inputs}
    found = module(*(torch.tensor(feeds[key]) for key in module.input_names if key in feeds))
    for ours, theirs in zip(found, ready.run(feeds), strict=True):
        assert share(ours, theirs) < 1e-4
