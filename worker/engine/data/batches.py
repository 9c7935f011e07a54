"""What a model is run on at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from worker.engine.types import Array


@final
@dataclass(frozen=True)
class Batch:
    """Arrays by input name, how many rows of data they are, and the rows' targets when there are any."""

    feeds: Mapping[str, Array]
    rows: int
    targets: Array | None = None
