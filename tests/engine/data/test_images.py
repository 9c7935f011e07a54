"""Zips of images as inputs: classes, splits, pairs, sizes, layouts, scales; what cannot be read says so."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from api_schemas.jobs import InputSpec
from api_schemas.models import TensorInfo
from tests.engine.data.pictures import png, zipped
from worker.engine.data import Dataset, image_columns, load_dataset
from worker.engine.errors import (
    EngineError,
    InvalidDatasetError,
    NeedsDatasetError,
    TooFewRowsError,
    TooLargeError,
)

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "cifar10"
COLOURS = {"cat": (255, 0, 0), "dog": (0, 255, 0), "eel": (0, 0, 255)}


def picture(shape: list[Any] | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name="x", dtype=dtype, shape=shape)


NCHW = picture(["n", 3, 8, 8])


def coloured(rows: int = 3) -> dict[str, bytes]:
    return {f"train/{name}/{row}.png": png(colour) for name, colour in COLOURS.items() for row in range(rows)}


def first(dataset: Dataset, rows: int = 64) -> tuple[np.ndarray, np.ndarray | None]:
    batch = next(dataset.batches(rows))
    return batch.feeds["x"], batch.targets


@pytest.mark.parametrize("compression", [0, 8])
def test_classes_come_in_turn_with_their_pixels(tmp_path: Path, compression: int) -> None:
    dataset = load_dataset(zipped(tmp_path / "d", coloured(), compression=compression), [NCHW])
    pixels, labels = first(dataset)
    assert (dataset.rows, dataset.has_targets, pixels.dtype) == (9, True, np.float32)
    assert labels is not None
    np.testing.assert_array_equal(labels, [0, 1, 2] * 3)
    np.testing.assert_array_equal(
        pixels, np.eye(3, dtype=np.float32)[labels][:, :, None, None] * np.ones((8, 8))
    )


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (["n", 3, 8, 8], (9, 3, 8, 8)),
        (["n", 8, 8, 3], (9, 8, 8, 3)),
        (["n", 1, 8, 8], (9, 1, 8, 8)),
        (["n", 8, 8, 1], (9, 8, 8, 1)),
        (["n", 8, 8], (9, 8, 8)),
        (["n", 3, 4, 6], (9, 3, 4, 6)),
        (["n", 3, None, None], (9, 3, 8, 8)),
        (["n", None, None, None], (9, 3, 8, 8)),
        (None, (9, 3, 8, 8)),
        ([3, 3, 8, 8], (3, 3, 8, 8)),
        ([1, 3, 8, 8], (1, 3, 8, 8)),
    ],
)
def test_the_input_says_how_pixels_are_laid_out(
    tmp_path: Path, shape: list[Any] | None, found: tuple[int, ...]
) -> None:
    dataset = load_dataset(zipped(tmp_path / "d", coloured()), [picture(shape)])
    assert first(dataset)[0].shape == found
    assert dataset.input_specs()["x"] == InputSpec(shape=[1, *found[1:]], dtype="float32")


def test_layouts_hold_the_same_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    path = zipped(tmp_path / "d", {"a/1.png": png(pixels), "b/1.png": png(pixels)})
    last = first(load_dataset(path, [picture(["n", 8, 8, 3])]))[0][0]
    np.testing.assert_allclose(last, pixels / 255, rtol=1e-6)
    np.testing.assert_array_equal(first(load_dataset(path, [NCHW]))[0][0], last.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_inputs_of_whole_numbers_get_the_pixels(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    path = zipped(tmp_path / "d", {"a/1.png": png(pixels), "b/1.png": png(pixels)})
    found = first(load_dataset(path, [picture(["n", 8, 8, 3], dtype)]))[0]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[0], pixels)


def test_scale_mean_and_std_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    files = {"a/1.png": png(pixels), "b/1.png": png(pixels)}
    imagenet = first(load_dataset(zipped(tmp_path / "d", files, {"mean": mean, "std": std}), [NCHW]))[0]
    np.testing.assert_allclose(
        imagenet[0].transpose(1, 2, 0), (pixels / 255 - mean) / std, rtol=1e-4, atol=1e-5
    )
    plain = first(load_dataset(zipped(tmp_path / "e", files, {"scale": 1, "mean": [127.5]}), [NCHW]))[0]
    np.testing.assert_allclose(plain[0].transpose(1, 2, 0), pixels - 127.5)
    swapped = first(load_dataset(zipped(tmp_path / "f", files, {"channels": "BGR"}), [NCHW]))[0]
    np.testing.assert_allclose(swapped[0].transpose(1, 2, 0), pixels[:, :, ::-1] / 255, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_widths_are_converted(tmp_path: Path, dtype: str) -> None:
    found = first(load_dataset(zipped(tmp_path / "d", coloured()), [picture(["n", 3, 8, 8], dtype)]))[0]
    assert str(found.dtype) == dtype


def test_images_are_fitted_as_pillow_fits_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    files = {"a/1.png": png(pixels), "b/1.png": png(pixels)}
    found = first(load_dataset(zipped(tmp_path / "d", files), [NCHW]))[0][0].transpose(1, 2, 0)
    whole = Image.fromarray(pixels).resize((12, 8), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(found, np.asarray(whole.crop((2, 0, 10, 8))) / 255, rtol=1e-6)
    stretched = {"fit": "stretch", "interpolation": "bicubic"}
    found = first(load_dataset(zipped(tmp_path / "e", files, stretched), [NCHW]))[0][0].transpose(1, 2, 0)
    whole = Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(found, np.asarray(whole) / 255, rtol=1e-6)
    larger = first(load_dataset(zipped(tmp_path / "f", files, {"resize": 10}), [NCHW]))[0][0]
    whole = Image.fromarray(pixels).resize((15, 10), Image.Resampling.BILINEAR)
    expected = np.asarray(whole)[1:9, round(3.5) : round(3.5) + 8] / 255
    np.testing.assert_allclose(larger.transpose(1, 2, 0), expected, rtol=1e-6)


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    files = {f"photos/{row}.png": png(row * 10) for row in range(5)}
    pixels, labels = first(load_dataset(zipped(tmp_path / "d", files), [picture(["n", 1, 8, 8])]))
    assert labels is None
    np.testing.assert_allclose(pixels[:, 0, 0, 0], np.arange(5) * 10 / 255, rtol=1e-6)


@pytest.mark.parametrize("held", ["val", "test"])
def test_the_folders_split_is_the_split(tmp_path: Path, held: str) -> None:
    files = {
        f"d/{use}/{name}/{row}.png": png(value + row)
        for use, value, rows in (("train", 10, 4), (held, 90, 2))
        for name in ("a", "b")
        for row in range(rows)
    }
    dataset = load_dataset(zipped(tmp_path / "d", files), [picture(["n", 1, 8, 8])])
    training, validation = dataset.split(0.5, 3)
    assert (dataset.rows, training.rows, validation.rows) == (12, 8, 4)
    assert first(training)[0].max() < 0.2 < first(validation)[0].min()
    np.testing.assert_array_equal(first(validation)[1], [0, 1, 0, 1])


def test_a_test_folder_beside_one_for_validation_is_in_neither(tmp_path: Path) -> None:
    files = {f"{use}/{name}/1.png": png(50) for use in ("train", "val", "test") for name in ("a", "b")}
    dataset = load_dataset(zipped(tmp_path / "d", files), [picture(["n", 1, 8, 8])])
    assert [dataset.rows, *(side.rows for side in dataset.split())] == [4, 2, 2]


def test_masks_keep_their_numbers(tmp_path: Path) -> None:
    mask = np.repeat(np.repeat(np.array([[0, 3], [255, 7]], np.uint8), 8, 0), 8, 1)
    files = {"images/1.jpg": png((9, 9, 9), (16, 16)), "masks/1.png": png(mask)}
    labels = first(load_dataset(zipped(tmp_path / "d", files), [NCHW]))[1]
    assert labels is not None and labels.dtype == np.int64
    np.testing.assert_array_equal(labels[0], mask[::2, ::2])


def test_indexed_masks_give_their_indices(tmp_path: Path) -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 5
    image = Image.new("P", (8, 8))
    image.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    image.putdata(indices.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    files = {"images/1.png": png((9, 9, 9)), "masks/1.png": buffer.getvalue()}
    labels = first(load_dataset(zipped(tmp_path / "d", files), [NCHW]))[1]
    assert labels is not None
    np.testing.assert_array_equal(labels[0], indices)


def test_pairs_keep_the_factor_between_them(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    large = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    files = {"inputs/1.png": png(small), "targets/1.png": png(large)}
    pixels, targets = first(load_dataset(zipped(tmp_path / "d", files, {"mean": [0.5]}), [NCHW]))
    assert targets is not None and targets.dtype == np.float32
    np.testing.assert_allclose(pixels[0].transpose(1, 2, 0), small / 255 - 0.5, atol=1e-6)
    np.testing.assert_allclose(targets[0].transpose(1, 2, 0), large / 255, rtol=1e-6)


def test_an_epoch_decodes_what_the_next_reads(tmp_path: Path) -> None:
    dataset = load_dataset(zipped(tmp_path / "d", coloured()), [NCHW])
    batches = list(zip(range(6), dataset.epochs(3, 0), strict=False))
    for _, batch in batches:
        assert batch.targets is not None
        np.testing.assert_array_equal(batch.feeds["x"][:, :, 0, 0], np.eye(3)[batch.targets])


def test_without_room_on_the_disk_images_are_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    path = zipped(tmp_path / "d", coloured())
    expected = first(load_dataset(path, [NCHW]))[0]
    dataset = load_dataset(path, [NCHW])
    monkeypatch.setattr("os.pwrite", full)
    for _ in range(2):
        np.testing.assert_array_equal(first(dataset)[0], expected)


def test_large_images_are_decoded_by_several_threads_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 80, 90, 3), np.uint8)
    path = zipped(tmp_path / "d", {f"{'ab'[row % 2]}/{row}.png": png(noise[row]) for row in range(9)})
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(image_columns, "_threads", lambda threads=threads: threads)
        found.append(first(load_dataset(path, [NCHW]))[0])
    np.testing.assert_array_equal(*found)
    broken = zipped(
        tmp_path / "e", {"a/1.png": png(noise[0]), "a/2.png": png(noise[1])[:9000], "b/1.png": png(1)}
    )
    with pytest.raises(InvalidDatasetError, match=r"a/2\.png"):
        first(load_dataset(broken, [NCHW]))


@pytest.mark.parametrize(
    ("files", "shape", "error", "words"),
    [
        ({"a/1.png": png(1), "b/1.png": b"\x89PNG\r\n\x1a\nno"}, ["n", 1, 8, 8], InvalidDatasetError, "b/1"),
        ({"a/1.png": png(1)[:45], "b/1.png": png(1)}, ["n", 1, 8, 8], InvalidDatasetError, "'a/1.png'"),
        ({"a/1.png": png(1), "b/1.png": b"<svg/>"}, ["n", 1, 8, 8], InvalidDatasetError, "cannot be read"),
        ({"a/1.png": png(1), "1.png": png(1)}, ["n", 1, 8, 8], InvalidDatasetError, "lies beside"),
        ({"a/1.png": png(1), "b/1.png": png(1)}, ["n", 64], NeedsDatasetError, "do not fit input"),
        ({"a/1.png": png(1), "b/1.png": png(1)}, ["n", 5, 8, 8], NeedsDatasetError, "do not fit input"),
        ({"a/1.png": png(1), "b/1.png": png(1)}, [4, 1, 8, 8], TooFewRowsError, "takes 4 rows at a time"),
        (
            {"images/1.png": png(1), "masks/1.png": png((1, 2, 3))},
            ["n", 1, 8, 8], InvalidDatasetError, "a mask is",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_so(
    tmp_path: Path, files: dict[str, bytes], shape: list[Any], error: type[EngineError], words: str
) -> None:
    with pytest.raises(error, match=words):
        list(load_dataset(zipped(tmp_path / "d", files), [picture(shape)]).batches(8))


def test_images_go_into_one_input(tmp_path: Path) -> None:
    other = TensorInfo(name="y", dtype="float32", shape=["n", 3, 8, 8])
    path = zipped(tmp_path / "d", coloured())
    with pytest.raises(NeedsDatasetError, match="the model has 2: 'x', 'y'"):
        load_dataset(path, [NCHW, other])
    dataset = load_dataset(path, [NCHW, other], given={"y": InputSpec(shape=[1, 3, 8, 8], value=0.5)})
    assert next(dataset.batches(2)).feeds["y"].max() == 0.5


@pytest.mark.parametrize(
    ("preprocessing", "dtype", "words"),
    [
        ({"mean": [0.5]}, "uint8", "takes whole numbers"),
        ({"mean": [0.1, 0.2]}, "float32", "mean has 2 numbers for 3 channels"),
        ({"channels": "L"}, "float32", "do not fit"),
        ({"sale": 1}, "float32", "preprocessing.json: sale"),
    ],
)
def test_preprocessing_that_does_not_fit_says_so(
    tmp_path: Path, preprocessing: dict[str, Any], dtype: str, words: str
) -> None:
    with pytest.raises(NeedsDatasetError, match=words):
        load_dataset(zipped(tmp_path / "d", coloured(), preprocessing), [picture(["n", 3, 8, 8], dtype)])


def test_pictures_of_too_many_pixels_are_not_decoded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (2**14, 2**13)).save(buffer, "PNG")
    path = zipped(tmp_path / "d", {"a/1.png": buffer.getvalue(), "b/1.png": png(1)})
    with pytest.raises(InvalidDatasetError, match="more than 67,108,864 pixels"):
        list(load_dataset(path, [NCHW]).batches(2))


def test_an_archive_over_the_budget_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError):
        load_dataset(zipped(tmp_path / "d", coloured()), [NCHW], logical_bytes=100)


def turned(pixels: np.ndarray, orientation: int, kind: str) -> bytes:
    """The pixels as stored, with the way up that a camera notes beside them."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_their_camera_was_held(tmp_path: Path, orientation: int, kind: str) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    zipped(tmp_path / "d", {f"a/{row}.tif": turned(stored, orientation, kind) for row in range(2)})
    pixels, _ = first(load_dataset(tmp_path / "d", [picture(["n", None, None, 3], "uint8")]))
    np.testing.assert_array_equal(pixels[0], upright)


def test_masks_are_turned_like_their_images(tmp_path: Path) -> None:
    stored = np.arange(54, dtype=np.uint8).reshape(6, 9)
    colours = np.repeat(stored[..., None], 3, axis=2)
    files = {f"images/{row}.png": turned(colours, 6, "PNG") for row in range(2)}
    files |= {f"masks/{row}.png": turned(stored, 6, "PNG") for row in range(2)}
    pixels, labels = first(load_dataset(zipped(tmp_path / "d", files), [picture(["n", 3, 9, 6], "uint8")]))
    np.testing.assert_array_equal(pixels[0, 0], np.rot90(stored, -1))
    assert labels is not None
    np.testing.assert_array_equal(labels[0], np.rot90(stored, -1))


def test_grey_of_sixteen_bits_keeps_its_upper_half(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    path = zipped(tmp_path / "d", {"a/1.png": png(values), "b/1.png": png(values)})
    found = first(load_dataset(path, [picture(["n", 1, 8, 8], "uint8")]))[0]
    np.testing.assert_array_equal(found[0, 0], values >> 8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compression=st.sampled_from([0, 8]))
def test_a_damaged_archive_is_refused_or_read_never_worse(
    tmp_path: Path, data: st.DataObject, compression: int
) -> None:
    content = bytearray(
        zipped(tmp_path / "d", coloured(1), {"mean": [0.5]}, compression=compression).read_bytes()
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "broken").write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        batches = list(load_dataset(tmp_path / "broken", [NCHW], logical_bytes=10**7).batches(2))
    except EngineError:
        return
    assert all(np.isfinite(batch.feeds["x"]).all() for batch in batches)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of tags that it skips
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), data=st.data())
def test_a_damaged_picture_is_refused_or_read_never_worse(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (1, 2, 3)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    path = zipped(tmp_path / "d", {"a/1.png": bytes(cut), "b/1.png": png(1)})
    try:
        batches = list(load_dataset(path, [picture(["n", 3, 8, 8])]).batches(2))
    except EngineError:
        return
    assert batches[0].feeds["x"].shape == (2, 3, 8, 8)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not beside the checkout")
def test_cifar10_as_it_is_shared() -> None:
    cifar = picture(["n", 3, 32, 32])
    test = load_dataset(SHARED / "cifar10_test_jpeg.zip", [cifar])
    train = load_dataset(SHARED / "cifar10_train_jpeg.zip", [cifar])
    assert (test.rows, train.rows) == (10_000, 50_000)
    assert train.target_column is not None
    np.testing.assert_array_equal(np.bincount(train.target_column.read()), [5000] * 10)
    pixels, labels = first(train, 20)
    assert labels is not None
    np.testing.assert_array_equal(labels, [*range(10), *range(10)])
    assert (pixels.shape, float(pixels.min()) >= 0, float(pixels.max()) <= 1) == ((20, 3, 32, 32), True, True)
    assert train.split(0.1, 0)[1].rows == 5000
