"""A zip of image folders: what its names say of classes, splits and pairs, and how images become inputs.

Only names and the optional `preprocessing.json` are looked at here; pixels are decoded in the child alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Literal, Self, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api_schemas.errors import plain_message

PREPROCESSING = "preprocessing.json"
PREPROCESSING_BYTES = 64 * 2**10
#: The largest file that is decoded.
LARGEST_IMAGE = 256 * 2**20
SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_TRAINING = frozenset(("train", "training"))
_VALIDATION = frozenset(("val", "valid", "validation"))
_TEST = frozenset(("test", "testing"))

Path = tuple[str, ...]


class ImageFolderError(ValueError):
    """The names in the archive make no dataset."""


class ImageTask(StrEnum):
    """What the folders mean."""

    CLASSES = "classes"
    UNLABELLED = "unlabelled"
    MASKS = "masks"
    PAIRS = "pairs"


#: Folders that stand side by side: (of the inputs, of the targets).
_SIDES = {ImageTask.MASKS: ("images", "masks"), ImageTask.PAIRS: ("inputs", "targets")}


class Use(StrEnum):
    """What a row is for, where the file says it."""

    TRAINING = "training"
    VALIDATION = "validation"
    NEITHER = "neither"


@final
class Preprocessing(BaseModel):
    """How an image becomes an input: fitted to height and width, then (pixel · scale − mean) / std.

    `scale` is 1/255 unless stated, so that `mean` and `std` (one number, or one per channel) are those of
    images from 0 to 1. Inputs of whole numbers get the pixels, 0 to 255, and neither scale, mean nor std.
    `layout` and `size` (height, width) matter where the model leaves its input's shape open.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float | None = Field(default=None, gt=0)
    mean: tuple[float, ...] = Field(default=(), max_length=3)
    std: tuple[float, ...] = Field(default=(), max_length=3)
    layout: Literal["NCHW", "NHWC"] | None = None
    channels: Literal["RGB", "BGR", "L"] | None = None
    size: tuple[int, int] | None = None
    fit: Literal["crop", "stretch"] = "crop"
    resize: int | None = Field(default=None, ge=1, le=16384)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be above zero")
        if self.size is not None and not all(1 <= side <= 16384 for side in self.size):
            raise ValueError("size is [height, width], each from 1 to 16384")
        return self


def parse_preprocessing(text: bytes) -> Preprocessing:
    """The content of `preprocessing.json`. Raises `ImageFolderError` that says what is wrong."""
    try:
        return Preprocessing.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ImageFolderError(f"{PREPROCESSING}: {where}: {plain_message(first)}"[:300]) from None


@final
@dataclass(frozen=True)
class ImageFolders:
    """Images by row, as names of members. `labels` count `classes`; `partners` are masks or target images."""

    task: ImageTask
    images: tuple[str, ...]
    labels: tuple[int, ...] = ()
    partners: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    preprocessing: str | None = None


@final
@dataclass(frozen=True)
class _Image:
    name: str
    path: Path
    use: Use | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What an image and its partner share: the use, and the path below the side's folder."""
        return (self.use or "", *self.path[1:-1], PurePosixPath(self.path[-1]).stem)


def has_images(names: Iterable[str]) -> bool:
    """Whether any name in an archive is that of an image."""
    return any(_is_image(name) for name in names)


def arrange(names: Sequence[str]) -> ImageFolders:
    """Rows from the names in an archive. Raises `ImageFolderError`.

    Folders that wrap everything are stripped; `train` beside `val`, `validation` or `test` splits the rows.
    What is left is `<class>/…`, `images/…` beside `masks/…`, `inputs/…` beside `targets/…`, or no folder.
    """
    found = [_Image(name, tuple(name.split("/"))) for name in sorted(names) if _is_image(name)]
    if not found:
        raise ImageFolderError("it holds no image")
    images = _unwrapped(_by_use(_unwrapped(found)))
    settings = _preprocessing(names)
    uses = tuple(image.use for image in images if image.use is not None)
    folders = {image.path[0] for image in images if len(image.path) > 1}
    for task, sides in _SIDES.items():
        if folders == set(sides) and all(len(image.path) > 1 for image in images):
            return _paired(task, images, sides, settings)
    if not folders:
        rows = tuple(image.name for image in images)
        return ImageFolders(ImageTask.UNLABELLED, rows, uses=uses, preprocessing=settings)
    return _classified(images, tuple(sorted(folders)), settings)


def _is_image(name: str) -> bool:
    parts = name.split("/")
    hidden = parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _preprocessing(names: Sequence[str]) -> str | None:
    found = [name for name in names if name.split("/")[-1] == PREPROCESSING]
    if len(found) > 1:
        raise ImageFolderError(f"it holds more than one {PREPROCESSING}")
    return found[0] if found else None


def _unwrapped(images: list[_Image]) -> list[_Image]:
    """Without the folders that all images are in."""
    while len({image.path[0] for image in images}) == 1 and all(len(image.path) > 1 for image in images):
        images = [_Image(image.name, image.path[1:], image.use) for image in images]
    return images


def _by_use(images: list[_Image]) -> list[_Image]:
    """With the use that the first folder states, where all the first folders state one.

    `test` is for validation where there is no folder for that, else for neither.
    """
    firsts = {image.path[0].lower() if len(image.path) > 1 else "" for image in images}
    if len(firsts) < 2 or not firsts & _TRAINING or firsts - _TRAINING - _VALIDATION - _TEST:
        return images
    test = Use.NEITHER if firsts & _VALIDATION else Use.VALIDATION
    uses = {
        **dict.fromkeys(_TRAINING, Use.TRAINING),
        **dict.fromkeys(_VALIDATION, Use.VALIDATION),
        **dict.fromkeys(_TEST, test),
    }
    return [_Image(image.name, image.path[1:], uses[image.path[0].lower()]) for image in images]


def _classified(images: list[_Image], classes: tuple[str, ...], settings: str | None) -> ImageFolders:
    """Classes in turn, so that any number of first rows has its share of each."""
    loose = next((image.name for image in images if len(image.path) == 1), None)
    if loose is not None:
        raise ImageFolderError(f"{loose[:100]!r} lies beside the folders of the classes")
    numbers = {name: number for number, name in enumerate(classes)}
    seen = dict.fromkeys(classes, 0)
    ranked = list[tuple[int, int, _Image]]()
    for image in images:
        name = image.path[0]
        ranked.append((seen[name], numbers[name], image))
        seen[name] += 1
    ranked.sort(key=lambda item: item[:2])
    return ImageFolders(
        ImageTask.CLASSES,
        images=tuple(image.name for _, _, image in ranked),
        labels=tuple(label for _, label, _ in ranked),
        classes=classes,
        uses=tuple(image.use for _, _, image in ranked if image.use is not None),
        preprocessing=settings,
    )


def _paired(
    task: ImageTask, images: list[_Image], sides: tuple[str, str], settings: str | None
) -> ImageFolders:
    """Images with what has the same name in the folder beside theirs."""
    first, second = (_by_key([image for image in images if image.path[0] == side]) for side in sides)
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        side = sides[1] if alone[0] in first else sides[0]
        raise ImageFolderError(f"{'/'.join(alone[0]).lstrip('/')[:100]!r} has no partner in {side}/")
    keys = sorted(first)
    return ImageFolders(
        task,
        images=tuple(first[key].name for key in keys),
        partners=tuple(second[key].name for key in keys),
        uses=tuple(use for key in keys if (use := first[key].use) is not None),
        preprocessing=settings,
    )


def _by_key(images: list[_Image]) -> dict[tuple[str, ...], _Image]:
    found = dict[tuple[str, ...], _Image]()
    for image in images:
        if image.key in found:
            raise ImageFolderError(f"two images are named {image.name[:100]!r} but for their suffix")
        found[image.key] = image
    return found
