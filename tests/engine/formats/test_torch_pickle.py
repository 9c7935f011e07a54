"""The reader of pickles interprets opcodes and calls nothing."""

import io
import struct
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.formats.files import quietly, scripted
from worker.engine.errors import EngineError, InvalidModelError
from worker.engine.formats.torch_pickle import Call, Instance, Storage, calls_with_paths, read_pickle


def data_of(module) -> bytes:
    buffer = io.BytesIO()
    quietly(torch.jit.save, module, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def test_a_module_is_read_with_the_paths_of_its_tensors():
    module = scripted(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)))
    root = read_pickle(data_of(module))
    assert isinstance(root, Instance)
    paths = {path: call for path, call in calls_with_paths(root) if call.function.startswith("torch._utils")}
    expected = dict(module.named_parameters()) | dict(module.named_buffers())
    assert set(paths) == set(expected)
    for path, call in paths.items():
        storage, offset, shape, strides = call.arguments[:4]
        assert isinstance(storage, Storage)
        assert (offset, shape, strides) == (0, tuple(expected[path].shape), expected[path].stride())
        assert storage.count == expected[path].numel()


def test_a_call_to_a_dangerous_function_is_only_described(tmp_path):
    target = tmp_path / "made"
    data = (
        b"cos\nsystem\n(X" + struct.pack("<I", len(f"touch {target}")) + f"touch {target}".encode() + b"tR."
    )
    call = read_pickle(data)
    assert isinstance(call, Call)
    assert call.function == "os.system"
    assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"(",
        b"\x80\x02",
        b"K\x01",
        b"\x80\x02R.",
        b"\x80\x02h\x05.",
        b"\x80\x02cx\ny\n\x93.",
        b"u.",
        b"Q.",
    ],
)
def test_a_broken_pickle_is_an_error_of_the_engine(data):
    with pytest.raises(InvalidModelError, match="description of its tensors"):
        read_pickle(data)


@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_value_or_an_error_of_the_engine(data):
    try:
        list(calls_with_paths(read_pickle(data)))
    except EngineError as error:
        assert "tensors" in str(error)


def test_a_pickle_that_refers_to_itself_ends():
    assert list(calls_with_paths(read_pickle(b"\x80\x02]q\x00h\x00a."))) == []


def test_an_endless_pickle_is_refused(monkeypatch):
    monkeypatch.setattr("worker.engine.formats.torch_pickle._MOST_OPCODES", 10)
    with pytest.raises(InvalidModelError, match="more than we read"):
        read_pickle(b"N" * 20 + b".")
