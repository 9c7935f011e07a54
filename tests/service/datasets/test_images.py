"""Zips of image folders: classes, splits and pairs from names, refusals with a reason, no pixel decoded."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from api_schemas.datasets import Dataset
from api_schemas.images import ImageFolderError, ImageTask, arrange
from service.datasets.service import read_arrays
from service.errors import ServiceError
from tests.service.conftest import MakeClient
from tests.service.files import zip_bytes

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
JPEG = b"\xff\xd8\xff\xe0" + bytes(16)


def post(client: TestClient, members: dict[str, bytes]) -> Any:
    return client.post("/v1/datasets?filename=pictures.zip", content=zip_bytes(members))


def shown(client: TestClient, members: dict[str, bytes]) -> Dataset:
    answer = post(client, members)
    assert answer.status_code == 201, answer.json()
    return Dataset.model_validate(answer.json())


def test_folders_are_classes_in_the_order_of_their_names(client: TestClient) -> None:
    found = shown(client, {"train/dog/1.jpg": JPEG, "train/cat/1.PNG": PNG, "train/cat/2.jpeg": JPEG})
    assert (found.format, found.rows, found.has_targets) == ("images", 3, True)
    assert found.filename == "pictures.zip"
    assert [(array.name, array.dtype, array.shape) for array in found.arrays] == [
        ("images", "image", [3]),
        ("targets", "int64", [3]),
    ]
    assert (found.arrays[1].classes, found.arrays[1].class_count) == (["cat", "dog"], 2)
    assert client.get(f"/v1/datasets/{found.id}").json()["arrays"][1]["classes"] == ["cat", "dog"]


def test_a_flat_folder_is_data_without_labels(client: TestClient) -> None:
    found = shown(client, {"a/1.jpg": JPEG, "a/2.png": PNG, "a/notes.txt": b"hello"})
    assert (found.rows, found.has_targets, len(found.arrays)) == (2, False, 1)


def test_what_systems_leave_in_archives_is_passed_over(client: TestClient) -> None:
    members = {"cat/1.png": PNG, "dog/1.png": PNG, "__MACOSX/cat/._1.png": b"x", "cat/.hidden.png": b"x"}
    assert shown(client, members).rows == 2


@pytest.mark.parametrize("sides", [("images", "masks"), ("inputs", "targets")])
def test_pairs_are_found_by_name(client: TestClient, sides: tuple[str, str]) -> None:
    found = shown(client, {f"{sides[0]}/1.jpg": JPEG, f"{sides[1]}/1.png": PNG})
    kinds = [(array.name, array.dtype) for array in found.arrays]
    assert kinds == [("images", "image"), ("targets", "image")]
    assert found.has_targets


def test_many_classes_are_counted_and_the_first_named(client: TestClient) -> None:
    found = shown(client, {f"c{number:04}/1.png": PNG for number in range(1001)})
    assert found.arrays[1].class_count == 1001
    assert found.arrays[1].classes is not None and len(found.arrays[1].classes) == 1000


BAD = {
    "is no image": {"cat/1.png": PNG, "dog/1.png": b"<html>no picture</html>"},
    "lies beside": {"cat/1.png": PNG, "dog/1.png": PNG, "loose.png": PNG},
    "has no partner in masks/": {"images/1.png": PNG, "images/2.png": PNG, "masks/1.png": PNG},
    "has no partner in inputs/": {"inputs/1.png": PNG, "targets/1.png": PNG, "targets/2.png": PNG},
    "but for their suffix": {"images/1.png": PNG, "images/1.jpg": JPEG, "masks/1.png": PNG},
    "preprocessing.json: mean": {"a/1.png": PNG, "b/1.png": PNG, "preprocessing.json": b'{"mean": "x"}'},
    "preprocessing.json: colour": {"a/1.png": PNG, "b/1.png": PNG, "preprocessing.json": b'{"colour": 1}'},
    "std must be above zero": {"a/1.png": PNG, "b/1.png": PNG, "preprocessing.json": b'{"std": [0]}'},
    "more than one preprocessing.json": {
        "a/1.png": PNG, "b/1.png": PNG, "preprocessing.json": b"{}", "a/preprocessing.json": b"{}"
    },
    "is too long": {"a/1.png": PNG, "b/1.png": PNG, "preprocessing.json": b" " * 70_000},
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_folders_that_make_no_dataset(client: TestClient, words: str) -> None:
    answer = post(client, BAD[words])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_dataset"), answer.json()
    assert words in answer.json()["detail"]


def test_a_zip_of_something_else_is_no_dataset(client: TestClient) -> None:
    answer = post(client, {"readme.txt": b"hello"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert "nor an image" in answer.json()["detail"]


def test_bombs_are_refused_undecoded(make_client: MakeClient) -> None:
    client = make_client(max_unpacked_bytes=4 * 2**20)
    ratio = {"cat/1.png": PNG + bytes(3 * 2**20), "dog/1.png": PNG}
    answer = client.post("/v1/datasets", content=zip_bytes(ratio, compression=8))
    assert (answer.status_code, "200 times" in answer.json()["detail"]) == (415, True)
    total = {f"{name}/1.png": PNG + bytes(3 * 2**20) for name in "ab"}
    answer = client.post("/v1/datasets", content=zip_bytes(total))
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_archives_are_refused_or_read_but_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    members = {"train/a/1.png": PNG, "train/b/1.jpg": JPEG, "preprocessing.json": b'{"mean": [0.5]}'}
    damaged = bytearray(zip_bytes(members, compression=data.draw(st.sampled_from([0, 8]))))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(bytes(damaged))
    try:
        read_arrays(path, 2**30)
    except ServiceError as error:
        assert error.http_status in (413, 415, 422)


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x01])
def test_members_of_kinds_that_are_not_unpacked_are_refused(tmp_path: Path, flag: int) -> None:
    """Patched data and encryption, which Python's zipfile says it cannot do."""
    for members in ({"train/a/1.png": PNG, "train/b/1.png": PNG}, {"x.npy": PNG}):
        data = bytearray(zip_bytes(members))
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.find(signature)
            while at >= 0:
                data[at + offset] |= flag
                at = data.find(signature, at + 1)
        path = tmp_path / "flagged"
        path.write_bytes(bytes(data))
        with pytest.raises(ServiceError) as refused:
            read_arrays(path, 2**30)
        assert refused.value.http_status in (415, 422)


parts = st.lists(st.sampled_from(["train", "val", "a", "b", "images", "masks"]), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(parts, st.sampled_from(["1.png", "2.jpg", "1.JPG", "x.txt", ".y.png"])), max_size=8)
)
def test_any_names_make_rows_of_every_image_or_a_refusal(found: list[tuple[list[str], str]]) -> None:
    names = sorted({"/".join([*folders, name]) for folders, name in found})
    try:
        folders = arrange(names)
    except ImageFolderError:
        return
    wanted = {name for name in names if not name.endswith((".txt", ".y.png"))}
    assert sorted([*folders.images, *folders.partners]) == sorted(wanted)
    assert len(folders.labels) == (len(folders.images) if folders.task is ImageTask.CLASSES else 0)
    assert set(folders.labels) == set(range(len(folders.classes)))
    assert len(folders.uses) in (0, len(folders.images))
