"""External data: kept in its layout, and refused where it leads out of the upload (S6)."""

import os
import zipfile

import numpy as np
import onnx
import pytest

from tests.engine.formats.files import dense_model, external_model, set_external, value_named, writable
from worker.engine.errors import InvalidModelError, TooLargeError
from worker.engine.formats import LoadOptions, load, runner


def load_in(folder, **options):
    return load(folder / "model.onnx", LoadOptions(scratch=folder, **options))


def test_a_bare_file_with_data_beside_it_comes_back_as_a_zip(tmp_path):
    model = external_model(tmp_path, offset=16)
    network = load_in(tmp_path)
    value = value_named(network, "W1")
    np.testing.assert_array_equal(
        network.read(value), onnx.numpy_helper.to_array(dense_model().graph.initializer[0])
    )
    network.write(value, np.zeros((4, 4), np.float32))
    network.save(tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["model.onnx", "model.data"]
        assert archive.read("model.onnx") == model.SerializeToString()
        assert archive.read("model.data") == b"\xee" * 16 + bytes(64) + b"tail"
    assert network.suffix == ".zip"
    again = load(tmp_path / "out.zip", LoadOptions(scratch=tmp_path))
    assert not again.read(value_named(again, "W1")).any()
    assert again.read(value_named(again, "W2")).any()


def test_a_zip_keeps_its_names_order_and_other_files(tmp_path):
    external_model(tmp_path, location="weights/part.bin")
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/README", "read me")
        archive.write(tmp_path / "weights" / "part.bin", "net/weights/part.bin")
        archive.write(tmp_path / "model.onnx", "net/model.onnx")
    options = LoadOptions(scratch=tmp_path)
    network = load(tmp_path / "in.zip", options)
    for value in writable(network):
        network.write(value, np.ones_like(network.read(value)))
    for name in ("one.zip", "two.zip"):
        network.save(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["net/README", "net/weights/part.bin", "net/model.onnx"]
        assert archive.read("net/README") == b"read me"
    feeds = {"X": np.ones((1, 4), np.float32)}
    (result,) = runner(tmp_path / "one.zip", options, 1).run(feeds)
    np.testing.assert_array_equal(result, np.full((1, 4), 16))


def test_a_part_of_the_model_may_be_large_when_it_is_outside(tmp_path):
    """Reading maps the file: the array's memory is the file's."""
    external_model(tmp_path)
    network = load_in(tmp_path)
    array = network.read(value_named(network, "W1"))
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    assert isinstance(root, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", ""])
def test_a_location_that_leads_out_is_refused(tmp_path, location):
    folder = tmp_path / "upload"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    external_model(folder, location=location or "model.data")
    model = onnx.ModelProto.FromString((folder / "model.onnx").read_bytes())
    set_external(model.graph.initializer[0], location=location)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert_refused(folder, "outside")


def assert_refused(folder, message):
    for use in (
        lambda: load_in(folder),
        lambda: runner(folder / "model.onnx", LoadOptions(scratch=folder), 1),
    ):
        with pytest.raises(InvalidModelError, match=message):
            use()


def test_links_are_refused(tmp_path):
    folder = tmp_path / "upload"
    folder.mkdir()
    external_model(folder)
    secret = tmp_path / "secret"
    (folder / "model.data").rename(secret)
    (folder / "model.data").symlink_to(secret)
    assert_refused(folder, "behind a link")
    (folder / "model.data").unlink()
    os.link(secret, folder / "model.data")
    assert_refused(folder, "no plain file")


def test_a_parent_that_is_a_link_is_refused(tmp_path):
    folder, elsewhere = tmp_path / "upload", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    external_model(folder, location="sub/model.data")
    (folder / "sub" / "model.data").rename(elsewhere / "model.data")
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(elsewhere)
    assert_refused(folder, "behind a link")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "-1"}, "reaches outside"),
        ({"offset": "8"}, "reaches outside"),
        ({"offset": str(2**63)}, "reaches outside"),
        ({"length": "63"}, "not as long"),
        ({"length": str(2**40)}, "not as long"),
        ({"length": "-64"}, "not as long"),
        ({"offset": "0x10"}, "broken offset"),
        ({"location": "model.onnx"}, "no plain file of its own"),
        ({"location": "missing.data"}, "was not uploaded"),
        ({"location": "."}, "no plain file"),
    ],
)
def test_a_range_that_is_not_in_the_file_is_refused(tmp_path, entries, message):
    model = external_model(tmp_path)
    set_external(model.graph.initializer[0], **{"location": "model.data", **entries})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert_refused(tmp_path, message)


def test_two_tensors_over_the_same_bytes_are_read_but_not_written(tmp_path):
    model = external_model(tmp_path)
    for tensor in model.graph.initializer:
        set_external(tensor, location="model.data")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    network = load_in(tmp_path)
    assert writable(network) == []
    np.testing.assert_array_equal(
        network.read(value_named(network, "W1")), network.read(value_named(network, "W2"))
    )


def test_the_budget_counts_what_is_outside(tmp_path):
    external_model(tmp_path)
    with pytest.raises(TooLargeError):
        load_in(tmp_path, logical_bytes=100)
