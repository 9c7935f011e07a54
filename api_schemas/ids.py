"""Prefixed, time-sortable identifiers: ``job_01jd3k…`` (26 characters of Crockford base 32)."""

import secrets
import time
from typing import Annotated

from pydantic import StringConstraints

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80
_LENGTH = 26
_BODY = "[0-9a-hjkmnp-tv-z]{26}"

ModelId = Annotated[str, StringConstraints(pattern=f"^mdl_{_BODY}$")]
DatasetId = Annotated[str, StringConstraints(pattern=f"^dat_{_BODY}$")]
JobId = Annotated[str, StringConstraints(pattern=f"^job_{_BODY}$")]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


def _base32(number: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * shift)) & 31] for shift in reversed(range(_LENGTH)))


def _new(prefix: str) -> str:
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{_base32((milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS))}"


def new_model_id() -> str:
    """A fresh ``mdl_…`` id; ids made later sort later (to the millisecond)."""
    return _new("mdl")


def new_dataset_id() -> str:
    """A fresh ``dat_…`` id."""
    return _new("dat")


def new_job_id() -> str:
    """A fresh ``job_…`` id."""
    return _new("job")
