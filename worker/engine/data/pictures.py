"""One image file as pixels of a given size: decoded by Pillow, fitted, and nothing else.

Pillow decodes untrusted bytes, so this runs in the sandboxed child alone.
"""

import io
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from api_schemas.images import Preprocessing
from worker.engine.errors import InvalidDatasetError
from worker.engine.types import Array

#: The parsers that may look at a file, by content; Pillow has many more.
_FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MOST_PIXELS: Final = 2**26
Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn where we refuse, and what it refuses is larger
_RESAMPLING: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: What brings stored pixels upright, by the orientation that a camera wrote into Exif.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE: Final = (5, 6, 7, 8)
_GREY_16: Final = ("I;16", "I;16L", "I;16B", "I;16N")


@final
@dataclass(frozen=True)
class Fit:
    """Height, width and channels (1 or 3) that pixels are brought to, and how.

    `labels` keeps the numbers of a mask as they are: palette entries or grey levels, never mixed.
    """

    height: int
    width: int
    channels: int
    preprocessing: Preprocessing
    labels: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels


def size_of(data: bytes, name: str) -> tuple[int, int, int]:
    """(height, width, channels) of an image that stands upright, channels 1 for grey and 3 for others."""
    image = _opened(data, name)
    channels = 1 if image.mode in ("1", "L", "LA", *_GREY_16) else 3
    # Pillow turns TIFF itself, and says so in the size before it has.
    if image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE:
        return image.width, image.height, channels
    return image.height, image.width, channels


def pixels_of(data: bytes, name: str, fit: Fit) -> Array:
    """(height, width, channels) as uint8. Raises `InvalidDatasetError` when the image cannot be decoded."""
    image = _opened(data, name)
    try:
        fitted = _fitted(_in_mode(_upright(image), name, fit), fit)
    except (InvalidDatasetError, MemoryError):
        raise
    except Exception as error:  # decoders of hostile bytes raise whatever they come upon
        raise _broken(name, str(error)) from None
    pixels = np.asarray(fitted, np.uint8).reshape(fit.shape)
    return pixels[:, :, ::-1] if fit.preprocessing.channels == "BGR" and fit.channels == 3 else pixels


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise _broken(name, f"it is none of {', '.join(_FORMATS)}, or damaged") from None
    except Exception as error:  # as above
        raise _broken(name, str(error)) from None
    if image.width * image.height > _MOST_PIXELS:
        raise _broken(name, f"it has more than {_MOST_PIXELS:,} pixels")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """The image as its camera was held; what was trained on upright pictures knows no others."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1, upright, where Exif says nothing that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # a damaged note beside good pixels
        return 1


def _broken(name: str, why: str) -> InvalidDatasetError:
    return InvalidDatasetError(f"the image {name[:100]!r} cannot be read: {why[:200]}")


def _in_mode(image: Image.Image, name: str, fit: Fit) -> Image.Image:
    """Grey, RGB, or a mask's own numbers. Grey of 16 bits loses its lower half."""
    if fit.labels and image.mode in ("L", "P"):
        image.load()
        return image if image.mode == "L" else Image.fromarray(np.array(image))
    if image.mode in ("I", "F"):
        raise _broken(name, f"pixels of mode {image.mode} are not read; save it with 8 bits")
    if fit.labels and image.mode != "1":
        raise _broken(name, "a mask is a grey or palette image whose numbers are the classes")
    if image.mode in _GREY_16:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if fit.labels:
        return Image.fromarray(np.asarray(image).astype(np.uint8))
    return image.convert("L" if fit.channels == 1 else "RGB")


def _fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """Stretched, or with its shorter side at the size wanted and the middle cut out."""
    if image.size == (fit.width, fit.height) and fit.preprocessing.resize is None:
        return image
    how = _RESAMPLING["nearest" if fit.labels else fit.preprocessing.interpolation]
    if fit.preprocessing.fit == "stretch":
        return image.resize((fit.width, fit.height), how)
    width, height = _covering(image.size, fit)
    left, top = round((width - fit.width) / 2), round((height - fit.height) / 2)
    resized = image if image.size == (width, height) else image.resize((width, height), how)
    return resized.crop((left, top, left + fit.width, top + fit.height))


def _covering(size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Width and height that keep the proportions and cover what is cut out."""
    scale = max(fit.width / size[0], fit.height / size[1])
    if fit.preprocessing.resize is not None:
        scale = max(scale, fit.preprocessing.resize / min(size))
    return max(fit.width, round(size[0] * scale)), max(fit.height, round(size[1] * scale))
