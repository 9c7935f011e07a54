"""Zips of image folders: classes, rows and pairs from the names, first bytes of some files; no pixel."""

import zipfile
from collections.abc import Sequence
from typing import Final

from api_schemas.datasets import IMAGE_DTYPE, IMAGES, MOST_CLASSES, TARGETS, ArrayInfo
from api_schemas.images import (
    LARGEST_IMAGE,
    PREPROCESSING_BYTES,
    ImageFolderError,
    ImageFolders,
    ImageTask,
    arrange,
    parse_preprocessing,
)
from service.datasets.arrays import DAMAGE, bad_dataset
from service.errors import TooLargeError

#: How many files are looked into here.
_LOOKED_AT: Final = 1000
_HEADS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_PORTABLE: Final = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")


def read_images(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> list[ArrayInfo]:
    """The images, and the targets that their folders make. Refuses folders that make no dataset."""
    files = {member.filename: member for member in members if not member.is_dir()}
    try:
        folders = arrange(list(files))
        if folders.preprocessing is not None:
            _check_preprocessing(archive, files[folders.preprocessing])
    except ImageFolderError as error:
        bad_dataset(str(error))
    _check_sizes([files[name] for name in (*folders.images, *folders.partners)])
    for name in (*folders.images[:_LOOKED_AT], *folders.partners[:_LOOKED_AT]):
        _check_head(archive, files[name])
    return _arrays(folders)


def _arrays(folders: ImageFolders) -> list[ArrayInfo]:
    rows = len(folders.images)
    images = ArrayInfo(name=IMAGES, dtype=IMAGE_DTYPE, shape=[rows])
    if folders.task is ImageTask.UNLABELLED:
        return [images]
    if folders.task is not ImageTask.CLASSES:
        return [images, ArrayInfo(name=TARGETS, dtype=IMAGE_DTYPE, shape=[rows])]
    targets = ArrayInfo(
        name=TARGETS,
        dtype="int64",
        shape=[rows],
        classes=[name[:256] for name in folders.classes[:MOST_CLASSES]],
        class_count=len(folders.classes),
    )
    return [images, targets]


def _check_preprocessing(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    if member.file_size > PREPROCESSING_BYTES:
        raise ImageFolderError(f"{member.filename[:100]} is too long")
    parse_preprocessing(_read(archive, member, PREPROCESSING_BYTES))


def _check_sizes(members: Sequence[zipfile.ZipInfo]) -> None:
    large = next((member for member in members if member.file_size > LARGEST_IMAGE), None)
    if large is not None:
        raise TooLargeError(f"The image {large.filename[:100]!r} is larger than {LARGEST_IMAGE:,} bytes.")


def _check_head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    if not _read(archive, member, 12).startswith((*_HEADS, *_PORTABLE)):
        shown = repr(member.filename[:100])
        bad_dataset(f"{shown} is no image that is read (JPEG, PNG, BMP, GIF, WebP, TIFF, PNM)")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> bytes:
    try:
        with archive.open(member) as file:
            return file.read(size)
    except DAMAGE:
        bad_dataset(f"{member.filename[:100]!r} is damaged")
