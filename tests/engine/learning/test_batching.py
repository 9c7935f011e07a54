"""How many rows a network takes at once, and that many calls give what one would."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from tests.engine.learning.digits import as_onnx, as_torchscript, digits, perceptron, rows_file, trained
from worker.engine.data import Dataset, load_dataset
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats import LoadOptions, load
from worker.engine.learning.batching import Batcher, batcher_for, run
from worker.engine.learning.distributed import World

INPUTS = {"input": [1, 1, 8, 8]}
WEIGHT = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)


def reshaping(path: Path, rows: int, declared: int | str) -> Path:
    """A net whose Reshape writes the number of rows down; what the file says of them is another matter."""
    nodes = [
        helper.make_node("Reshape", ["input", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", 1, [declared, 4, 8])],
        [helper.make_tensor_value_info("output", 1, [declared, 5])],
        [
            numpy_helper.from_array(np.array([rows, 32], np.int64), "shape"),
            numpy_helper.from_array(WEIGHT, "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def opened(path: Path, data: Path, size: int, inputs=None) -> tuple[torch.nn.Module, Batcher]:
    network = load(path, LoadOptions(inputs=inputs or {}))
    trainable = network.trainable()
    rows = load_dataset(data, network.inputs, given=inputs)
    return trainable.module, batcher_for(trainable.module, trainable.input_names, rows, size, "cpu")


def numbers(folder: Path, rows: int) -> Path:
    """Random rows, with their place as target."""
    values = np.random.default_rng(1).normal(size=(rows, 4, 8)).astype(np.float32)
    np.savez(folder / "x.npz", input=values, targets=np.arange(rows))
    return folder / "x.npz"


def all_outputs(module: torch.nn.Module, batcher: Batcher) -> tuple[np.ndarray, list[int]]:
    with torch.no_grad():
        found = [(run(module, batch)[0].numpy(), batch.rows) for batch in batcher.batches()]
    return np.concatenate([outputs for outputs, _ in found]), [rows for _, rows in found]


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_file_that_computes_row_by_row_gets_all_rows_at_once_whatever_it_declares(tmp_path, batch):
    path = as_onnx(trained(perceptron), tmp_path / "m.onnx", batch=batch)
    module, batcher = opened(path, rows_file(tmp_path / "d.npz", slice(0, 60)), 30)
    assert batcher.per_call is None
    outputs, rows = all_outputs(module, batcher)
    assert rows == [30, 30]
    with torch.no_grad():
        expected = trained(perceptron)(torch.from_numpy(digits()[0][:60])).numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "declared"), [(1, 1), (2, 2), (1, "n")])
def test_a_file_that_is_bound_is_called_several_times_for_a_batch(tmp_path, rows, declared):
    module, batcher = opened(reshaping(tmp_path / "m.onnx", rows, declared), numbers(tmp_path, 20), 8)
    assert batcher.per_call == rows
    outputs, counts = all_outputs(module, batcher)
    assert counts == [8, 8, 4]
    values = np.load(tmp_path / "x.npz")["input"].reshape(20, 32)
    np.testing.assert_allclose(outputs, values @ WEIGHT, atol=1e-4)
    first = next(iter(batcher.batches()))
    assert len(first.calls) == 8 // rows
    assert first.targets.tolist() == list(range(8))


def test_a_traced_module_that_wrote_its_batch_down_is_run_row_by_row(tmp_path):
    class Written(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 10)

        def forward(self, input):
            return self.layer(input.view(1, 64))

    path = as_torchscript(Written().eval(), tmp_path / "m.pt", traced=True)
    module, batcher = opened(path, rows_file(tmp_path / "d.npz", slice(0, 10)), 4, INPUTS)
    assert batcher.per_call == 1
    outputs, rows = all_outputs(module, batcher)
    assert rows == [4, 4, 2]
    assert outputs.shape == (10, 10)


def test_a_network_that_fails_on_the_rows_is_refused(tmp_path):
    with pytest.raises(InvalidRecipeError, match="torch fails on the model with these rows"):
        opened(reshaping(tmp_path / "m.onnx", 7, "n"), numbers(tmp_path, 20), 8)


def dataset(folder: Path, rows: int) -> Dataset:
    network = load(reshaping(folder / "m.onnx", 1, "n"), LoadOptions())
    return load_dataset(numbers(folder, rows), network.inputs)


@pytest.mark.parametrize("per_call", [None, 1, 3])
def test_shuffled_batches_are_the_same_from_wherever_they_begin(tmp_path, per_call):
    batcher = Batcher(dataset(tmp_path, 23), ("input",), 6, torch.device("cpu"), per_call)
    stream = batcher.shuffled(5)
    batches = [next(stream).targets.tolist() for _ in range(9)]
    assert {len(batch) for batch in batches} == {6}
    for start in (1, 4, 8):
        assert next(batcher.shuffled(5, start)).targets.tolist() == batches[start]
    assert batches[0] != next(batcher.shuffled(6)).targets.tolist()
    assert len({row for batch in batches[:3] for row in batch}) == 18


@pytest.mark.parametrize("per_call", [None, 1])
def test_processes_share_a_batch_between_them(tmp_path, per_call):
    batcher = Batcher(dataset(tmp_path, 24), ("input",), 6, torch.device("cpu"), per_call)
    alone = next(batcher.shuffled(5, 2)).targets.tolist()
    shares = [next(batcher.shuffled(5, 2, World(rank, 3))).targets.tolist() for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert [row for share in shares for row in share] == alone


def both(folder: Path, per_call: int | None) -> tuple[Batcher, Batcher]:
    """Batches of rows, and of mixtures of the same rows."""
    plain = Batcher(dataset(folder, 23), ("input",), 6, torch.device("cpu"), per_call)
    return plain, plain.mixtures(next(plain.batches()))


@pytest.mark.parametrize("per_call", [None, 1, 3])
def test_mixtures_are_the_same_from_wherever_they_begin(tmp_path, per_call):
    plain, mixed = both(tmp_path, per_call)
    stream, rows = mixed.shuffled(5), plain.shuffled(5)
    for number in range(6):
        found, own = next(stream), next(rows)
        again = next(mixed.shuffled(5, number))
        assert (found.rows, found.targets) == (own.rows, None)
        assert [len(call[0]) for call in found.calls] == [len(call[0]) for call in own.calls]
        for one, other in zip(found.calls, again.calls, strict=True):
            assert torch.equal(one[0], other[0])
    assert not torch.equal(found.calls[0][0], own.calls[0][0])


def test_rows_in_order_have_their_mixtures_beside_them(tmp_path):
    plain, mixed = both(tmp_path, None)
    rows, found = list(plain.batches()), list(mixed.batches())
    assert sum(batch.rows for batch in found) == mixed.judged == 4 * plain.judged
    for own, kept in zip(rows, found[::4], strict=True):
        assert torch.equal(own.calls[0][0], kept.calls[0][0])
        assert own.targets.tolist() == kept.targets.tolist()
    assert not torch.equal(found[1].calls[0][0], found[2].calls[0][0])
    assert found[1].targets is None
