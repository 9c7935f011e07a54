"""Every network of the zoo is what it says, runs, and reaches a file that computes the same.

Measured in full once, with torch 2.13: all go through both ONNX exporters (opset 14 to 20 by tracing, 18 and
23 by dynamo), with a dynamic batch, and both ways to TorchScript. Here each takes one route by tracing,
and a few take the slower ones.
"""

from pathlib import Path
from zlib import crc32

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.zoo import ZOO, export, torchscript
from tests.zoo.exporting import outputs
from tests.zoo.published import PARAMETERS

NAMES = sorted(ZOO)
#: Networks whose dynamo graphs differ most from the traced ones.
BY_DYNAMO = (
    "attention_grouped",
    "attention_library",
    "channel_gather",
    "frozen_norm",
    "gate_by_linear",
    "group_norm",
    "gru_classifier",
    "resize_by_size",
    "resnet18_fresh",
    "shuffle_depthwise",
    "swin_t",
)
SCRIPTED = ("bert", "hrnet", "llama", "shufflenet_v2_x1_0", "swin_t", "unet", "vit_b_16", "yolo")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def same(name: str, path: Path, batch: int) -> None:
    """The ONNX file passes the checker and agrees with PyTorch at another batch size and other inputs."""
    onnx.checker.check_model(str(path), full_check=True)
    inputs = ZOO[name].inputs(batch=batch, seed=3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    results = session.run(None, {key: tensor.numpy() for key, tensor in inputs.items()})
    for result, wanted in zip(results, outputs(ZOO[name].make(), inputs), strict=True):
        scale = float(wanted.abs().max())
        np.testing.assert_allclose(result, wanted.numpy(), rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_finite_and_depend_on_the_inputs(name: str) -> None:
    entry = ZOO[name]
    first = outputs(entry.make(), entry.inputs(seed=1))
    other = outputs(entry.make(), entry.inputs(seed=2))
    for a, b in zip(first, other, strict=True):
        assert torch.isfinite(a).all()
        assert float(a.abs().max()) < 1e3
        assert float((a - b).abs().max()) > 1e-2 * float(a.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_seeded_and_no_two_are_equal_by_accident(name: str) -> None:
    module, again = ZOO[name].make(), ZOO[name].make()
    pairs = zip(module.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert sum(parameter.numel() for parameter in module.parameters()) < 700_000
    values = [parameter.numpy().tobytes() for parameter in module.parameters()]
    assert (len(set(values)) == len(values)) is not ZOO[name].fresh


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_full_size_has_the_published_number_of_parameters(name: str) -> None:
    parameters = {id(parameter): parameter.numel() for parameter in ZOO[name].skeleton().parameters()}
    assert sum(parameters.values()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_traced_file_computes_the_same(name: str) -> None:
    code = crc32(name.encode())
    path = export(name, opset=14 + code % 7, dynamic_batch=True, fold=code % 2 == 0)
    same(name, path, batch=3)


@pytest.mark.parametrize("name", BY_DYNAMO)
def test_the_file_by_dynamo_computes_the_same(name: str) -> None:
    opset = (18, 20, 23)[crc32(name.encode()) % 3]
    same(name, export(name, exporter="dynamo", opset=opset, dynamic_batch=True), batch=3)


@pytest.mark.parametrize("name", ["resnet18", "deit_small", "unet", "gpt2"])
def test_opset_13_computes_the_same(name: str) -> None:
    same(name, export(name, opset=13), batch=2)


def test_batch_norms_are_kept_or_merged_on_request() -> None:
    for fold, kept in ((True, 0), (False, 20)):
        graph = onnx.load(export("resnet18", fold=fold)).graph
        assert sum(node.op_type == "BatchNormalization" for node in graph.node) == kept


def test_an_untrained_network_shares_tensors_between_layers() -> None:
    def merged(name: str) -> int:
        graph = onnx.load(export(name, fold=False)).graph
        readers = [name for node in graph.node for name in node.input]
        return sum(readers.count(tensor.name) > 1 for tensor in graph.initializer)

    assert merged("resnet18_fresh") > merged("resnet18") == 0


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("name", "script"), [("resnet18", False), *((name, True) for name in SCRIPTED)])
def test_torchscript_computes_the_same(name: str, script: bool, tmp_path: Path) -> None:
    loaded = torch.jit.load(str(torchscript(name, tmp_path / "model.pt", script=script)))
    inputs = ZOO[name].inputs(seed=4)
    for a, b in zip(outputs(loaded, inputs), outputs(ZOO[name].make(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
