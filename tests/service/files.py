"""Files small enough to write by hand: just what the API looks at, for the engine never sees them here."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def onnx_bytes(payload: bytes = b"\x0a\x04test") -> bytes:
    """ir_version, then a graph field with that payload: the outline of a ModelProto."""
    return b"\x08\x08" + b"\x3a" + varint(len(payload)) + payload


def zip_bytes(members: Mapping[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def torchscript_bytes() -> bytes:
    return zip_bytes(
        {"m/data.pkl": b"x", "m/constants.pkl": b"x", "m/code/__torch__.py": b"", "m/version": b"3"}
    )


def npz_bytes(compressed: bool = False, **arrays: Any) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def digits() -> bytes:
    return npz_bytes(x=np.zeros((6, 1, 8, 8), np.float32), targets=np.arange(6))
