"""A zip of images bound to the one input of a model that takes them, with size, channels and layout."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from api_schemas.datasets import IMAGES, TARGETS
from api_schemas.images import (
    LARGEST_IMAGE,
    PREPROCESSING_BYTES,
    ImageFolderError,
    ImageFolders,
    ImageTask,
    Preprocessing,
    arrange,
    parse_preprocessing,
)
from worker.engine.data.columns import Column
from worker.engine.data.image_columns import Layout, Masks, Pictures, Pixels
from worker.engine.data.matching import Binding, constant_or_none
from worker.engine.data.members import Archive, Member, named
from worker.engine.data.pictures import Fit, size_of
from worker.engine.data.shapes import Dimension, InputShape, spelled
from worker.engine.data.sources import Held
from worker.engine.data.synthetic import dtype_of
from worker.engine.errors import InvalidDatasetError, NeedsDatasetError, TooLargeError
from worker.engine.types import Array

_FLOAT: Final = np.dtype(np.float32)


@final
@dataclass(frozen=True)
class ImageSet:
    """What the archive holds, and where."""

    folders: ImageFolders
    archive: Archive
    members: dict[str, Member]
    preprocessing: Preprocessing

    def of(self, names: Sequence[str]) -> list[Member]:
        """Members by name."""
        return [self.members[name] for name in names]

    def size(self, name: str) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return size_of(self.archive.read(self.members[name]), name)


def open_images(path: Path, members: Sequence[Member]) -> ImageSet:
    """The images of an archive. Raises `InvalidDatasetError` when its names make no dataset, and
    `TooLargeError` for a file that no picture needs."""
    archive, by_name = Archive(path), named(members)
    try:
        folders = arrange(list(by_name))
        _check_sizes(by_name[name] for name in (*folders.images, *folders.partners))
        return ImageSet(folders, archive, by_name, _preprocessing(folders, archive, by_name))
    except ImageFolderError as error:
        raise InvalidDatasetError(f"the folders of images cannot be used: {error}") from None


def _check_sizes(members: Iterable[Member]) -> None:
    large = next((member for member in members if member.size > LARGEST_IMAGE), None)
    if large is not None:
        raise TooLargeError(f"the image {large.name[:100]!r} is larger than {LARGEST_IMAGE:,} bytes")


def _preprocessing(folders: ImageFolders, archive: Archive, members: dict[str, Member]) -> Preprocessing:
    if folders.preprocessing is None:
        return Preprocessing()
    member = members[folders.preprocessing]
    if member.size > PREPROCESSING_BYTES:
        raise ImageFolderError(f"{folders.preprocessing[:100]} is too long")
    return parse_preprocessing(archive.read(member))


def bind_images(items: Sequence[InputShape], images: ImageSet) -> tuple[tuple[Binding, ...], Column | None]:
    """The bindings of the inputs, and the targets. Raises `NeedsDatasetError` when no input takes images."""
    free = [item for item in items if item.value is None]
    if len(free) != 1:
        listed = ", ".join(f"{item.name[:80]!r}" for item in free[:20])
        raise NeedsDatasetError(f"images go into one input; the model has {len(free)}: {listed}")
    fit, layout = _settled(free[0], images)
    column = _pictures(IMAGES, images, images.folders.images, fit, layout)
    bound = Binding(replace(free[0], shape=_known(free[0], column)), column)
    bindings = tuple(constant_or_none(item) or bound for item in items)
    return bindings, _targets(images, fit, layout)


def _known(item: InputShape, column: Column) -> tuple[Dimension, ...]:
    first = item.known[0] if item.known else None
    return (first, *column.shape[1:])


def _settled(item: InputShape, images: ImageSet) -> tuple[Fit, Layout]:
    """What the file says of its input, completed by `preprocessing.json` and the first image."""
    known, preprocessing = item.known, images.preprocessing
    order = _order(item, known, preprocessing)
    sizes = dict(zip(order, known, strict=True)) if known is not None else {}
    own = images.size(images.folders.images[0])
    wanted = preprocessing.size or own[:2]
    height, width = (_number(sizes.get(axis), side) for axis, side in zip("HW", wanted, strict=True))
    channels = 1 if order == "NHW" else _number(sizes.get("C"), _channels(preprocessing, own))
    named = preprocessing.channels
    if channels not in (1, 3) or (named is not None and (named == "L") != (channels == 1)):
        raise _no_picture(item)
    dtype = _FLOAT if item.untyped else dtype_of(item)
    fit = Fit(height, width, channels, preprocessing)
    return fit, _scaling(item, fit, Layout(order, dtype))


def _order(item: InputShape, known: Sequence[Dimension] | None, preprocessing: Preprocessing) -> str:
    """The axes of the input: channels are where a dimension is 1 or 3, second if both or neither are."""
    if known is None or len(known) == 4:
        if preprocessing.layout is not None:
            return preprocessing.layout
        last = known is not None and known[3] in (1, 3) and known[1] not in (1, 3)
        return "NHWC" if last else "NCHW"
    if len(known) == 3:
        return "NHW"
    raise _no_picture(item)


def _channels(preprocessing: Preprocessing, own: tuple[int, int, int]) -> int:
    if preprocessing.channels is None:
        return own[2]
    return 1 if preprocessing.channels == "L" else 3


def _number(dimension: Dimension, otherwise: int) -> int:
    return dimension if isinstance(dimension, int) else otherwise


def _no_picture(item: InputShape) -> NeedsDatasetError:
    return NeedsDatasetError(
        f"the dataset holds images, which do not fit input {item.name[:80]!r} "
        f"{item.dtype}{spelled(item.known)}",
        hint="images fit inputs of shape [batch, channels, height, width] or [batch, height, width, "
        "channels] with 1 or 3 channels; for others save arrays as .npz",
    )


def _scaling(item: InputShape, fit: Fit, layout: Layout) -> Layout:
    chosen = fit.preprocessing
    if layout.dtype.kind in "biu":
        if chosen.scale is not None or chosen.mean or chosen.std:
            raise NeedsDatasetError(
                f"input {item.name[:80]!r} takes whole numbers; scale, mean and std do not go with it"
            )
        return replace(layout, dtype=np.dtype(np.uint8))
    for name, values in (("mean", chosen.mean), ("std", chosen.std)):
        if len(values) not in (0, 1, fit.channels):
            raise InvalidDatasetError(f"{name} has {len(values)} numbers for {fit.channels} channels")
    return replace(layout, scale=chosen.scale or layout.scale, mean=chosen.mean, std=chosen.std)


def _pictures(name: str, images: ImageSet, names: Sequence[str], fit: Fit, layout: Layout) -> Column:
    pixels = Pixels(images.archive, images.of(names), fit)
    dtype = layout.dtype if layout.dtype.kind in "biu" else _stored(layout.dtype)
    return Column(name, dtype, (len(names), *layout.shape(fit)), Pictures(pixels, layout))


def _stored(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """Scaling is done in single precision, or in double where the input has it."""
    return dtype if dtype == np.float64 else _FLOAT


def _targets(images: ImageSet, fit: Fit, layout: Layout) -> Column | None:
    folders = images.folders
    if folders.task is ImageTask.UNLABELLED:
        return None
    if folders.task is ImageTask.CLASSES:
        labels: Array = np.asarray(folders.labels, np.int64)
        return Column(TARGETS, labels.dtype, labels.shape, Held(labels))
    if folders.task is ImageTask.MASKS:
        shape = replace(fit, channels=1, labels=True)
        pixels = Pixels(images.archive, images.of(folders.partners), shape)
        return Column(TARGETS, np.dtype(np.int64), (len(folders.partners), *shape.shape[:2]), Masks(pixels))
    return _target_pictures(images, fit, layout)


def _target_pictures(images: ImageSet, fit: Fit, layout: Layout) -> Column:
    """The larger (or cleaner) images: as much larger than the input as the first is than its partner.

    They are scaled as the input is, but neither mean nor std goes from them.
    """
    folders = images.folders
    small, large = images.size(folders.images[0]), images.size(folders.partners[0])
    sized = replace(
        fit,
        height=round(fit.height * large[0] / small[0]),
        width=round(fit.width * large[1] / small[1]),
        channels=large[2] if layout.order != "NHW" else 1,
        preprocessing=images.preprocessing.model_copy(update={"resize": None}),
    )
    whole = layout.dtype.kind in "biu"
    scaled = replace(layout, dtype=_FLOAT, scale=1.0 if whole else layout.scale, mean=(), std=())
    return _pictures(TARGETS, images, folders.partners, sized, scaled)
