"""Arrays that wait on disk."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from worker.engine.formats import memory
from worker.engine.formats.memory import Shelf


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, ml_dtypes.bfloat16])
@pytest.mark.parametrize("scratch", [True, False])
def test_what_was_put_on_the_shelf_is_taken_from_it(
    dtype: type, scratch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_LARGE", 64)
    shelf = Shelf[str](tmp_path if scratch else None)
    arrays = {"small": np.eye(3), "large": np.arange(200).reshape(10, 20) % 7, "turned": np.eye(9)[::-1].T}
    for key, array in arrays.items():
        shelf[key] = array.astype(dtype)
    for key, array in arrays.items():
        assert shelf[key].dtype == dtype
        np.testing.assert_array_equal(shelf[key], array.astype(dtype))
        with pytest.raises(ValueError, match="read-only"):
            shelf[key][0, 0] = 1
    assert list(shelf.only(["large"])) == ["large"]
    assert not list(tmp_path.iterdir())


def test_a_large_array_takes_memory_only_while_it_is_held(tmp_path: Path) -> None:
    shelf = Shelf[int](tmp_path)
    shelf[0] = np.ones(1 << 25, np.uint8)

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    held = shelf[0]
    assert int(held.sum()) == 1 << 25
    assert mapped() == 1
    del held
    assert mapped() == 0
