"""TorchScript archives: tensors are found and changed in place, hostile archives are refused before torch."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.formats.files import quietly, random_array, reloaded, save_jit, save_script, scripted
from worker.engine.errors import EngineError, InvalidModelError, TooLargeError
from worker.engine.formats import LoadOptions, load, runner
from worker.engine.formats.torch_archive import TorchArchive
from worker.engine.formats.torch_signature import to_array, to_tensor

LIMIT = 2**30


def rewritten(
    path: Path, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED
) -> Path:
    """The archive with members changed, or left out where `change` gives None."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            changed = change(name, data)
            if changed is not None:
                archive.writestr(name, changed)
    return path


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(
        [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, np.int64, np.int8, np.uint8, np.bool_]
    ),
    st.lists(st.integers(1, 4), max_size=4),
    st.randoms(use_true_random=False),
    st.integers(0, 2**31),
)
def test_a_tensor_of_any_type_and_stride_is_read_and_changed(tmp_path_factory, kind, shape, random, seed):
    folder, dtype = tmp_path_factory.mktemp("t"), np.dtype(kind)
    before, after = random_array(dtype, shape, seed), random_array(dtype, shape, seed + 1)
    order = random.sample(range(len(shape)), len(shape))
    module = torch.nn.Module()
    module.register_buffer("w", to_tensor(before).permute(order) if order else to_tensor(before))
    path = save_jit(scripted(module), folder / "m.pt")
    archive = TorchArchive(path, LIMIT)
    place = archive.tensors["w"]
    expected = before.transpose(order)
    np.testing.assert_array_equal(place.view(archive.record(place.record)), expected)
    record = np.array(archive.record(place.record))
    place.view(record)[...] = after.transpose(order)
    archive.save(folder / "n.pt", [(place.record, record)])
    changed = reloaded(folder / "n.pt").w
    np.testing.assert_array_equal(to_array(changed), after.transpose(order))
    with zipfile.ZipFile(folder / "n.pt") as saved:
        assert saved.testzip() is None


def test_all_but_the_changed_record_stays_as_it_was(tmp_path):
    path = save_script(torch.nn.Linear(3, 2), tmp_path / "m.pt", **{"note.txt": "hello"})
    archive = TorchArchive(path, LIMIT)
    place = archive.tensors["weight"]
    archive.save(tmp_path / "n.pt", [(place.record, np.zeros(24, np.uint8))])
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "n.pt") as new:
        assert old.namelist() == new.namelist()
        differing = [name for name in old.namelist() if old.read(name) != new.read(name)]
    assert differing == [place.record]
    notes = {"note.txt": ""}
    reloaded(tmp_path / "n.pt", _extra_files=notes)
    assert notes["note.txt"] in ("hello", b"hello")
    with pytest.raises(ValueError, match="holds 24 bytes"):
        archive.save(tmp_path / "o.pt", [(place.record, np.zeros(23, np.uint8))])


def test_marked_tensors_are_all_different_and_integers_stay(tmp_path):
    module = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(3)))
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    module.register_buffer("count", torch.tensor([7]))
    archive = TorchArchive(save_script(module, tmp_path / "m.pt"), LIMIT)
    marked = archive.marked(tmp_path / "marked.pt")
    arrays = {name: place.view(marked.record(place.record)) for name, place in marked.tensors.items()}
    assert arrays.pop("count").tolist() == [7]
    assert len({array.tobytes() for array in arrays.values()}) == len(arrays) == 6
    again = archive.marked(tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "marked.pt").read_bytes()
    assert again.tensors == marked.tensors


def expanded(path: Path, *size: int) -> Path:
    module = torch.nn.Module()
    module.register_buffer("w", torch.ones(1).expand(*size))
    return save_jit(scripted(module), path)


def test_a_tiny_file_with_a_huge_tensor_is_refused(tmp_path):
    """Stride 0: two kilobytes that stand for terabytes (reliability page, O)."""
    path = expanded(tmp_path / "m.pt", 2**20, 2**20)
    assert path.stat().st_size < 4096
    for use in (lambda: load(path, LoadOptions()), lambda: runner(path, LoadOptions(), 1)):
        with pytest.raises(TooLargeError):
            use()


def test_a_tensor_with_shared_elements_is_not_writable(tmp_path):
    archive = TorchArchive(expanded(tmp_path / "m.pt", 3, 2), LIMIT)
    assert not archive.tensors["w"].dense
    np.testing.assert_array_equal(
        archive.tensors["w"].view(archive.record(archive.tensors["w"].record)), np.ones((3, 2))
    )


def test_compressed_tensor_data_is_refused(tmp_path):
    """One to a thousand: reliability page, N."""
    path = rewritten(
        save_script(torch.nn.Linear(64, 64), tmp_path / "m.pt"), lambda _, data: data, zipfile.ZIP_DEFLATED
    )
    reloaded(path)
    with pytest.raises(InvalidModelError, match="uncompressed"):
        load(path, LoadOptions())


def test_a_tensor_outside_its_record_is_refused(tmp_path):
    path = save_script(torch.nn.Linear(4, 4), tmp_path / "m.pt")
    rewritten(path, lambda name, data: data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(InvalidModelError, match="reaches outside"):
        load(path, LoadOptions())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: None if name.endswith("/data.pkl") else data, "lacks the description"),
        (lambda name, data: b"big" if name.endswith("byteorder") else data, "big-endian"),
        (lambda name, data: data[:40] if name.endswith("/data.pkl") else data, "description of its tensors"),
        (lambda name, data: b"def f(: broken" if name.endswith(".py") else data, "torch cannot load"),
    ],
)
def test_damaged_parts_are_named(tmp_path, change, message):
    path = rewritten(save_script(torch.nn.Linear(4, 4), tmp_path / "m.pt"), change)
    with pytest.raises(InvalidModelError, match=message) as caught:
        load(path, LoadOptions())
    assert str(tmp_path) not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path):
    path = save_script(torch.nn.Linear(4, 4), tmp_path / "m.pt")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(EngineError, match="zip"):
        load(path, LoadOptions())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_byte_ends_in_an_error_of_the_engine_or_in_tensors(tmp_path_factory, position, byte):
    buffer = io.BytesIO()
    quietly(torch.jit.save, scripted(torch.nn.Linear(3, 2)), buffer)
    data = bytearray(buffer.getvalue())
    data[position % len(data)] = byte
    path = tmp_path_factory.mktemp("t") / "m.pt"
    path.write_bytes(data)
    try:
        archive = TorchArchive(path, LIMIT)
    except EngineError:
        return
    for place in archive.tensors.values():
        assert place.view(archive.record(place.record)).shape == place.shape
