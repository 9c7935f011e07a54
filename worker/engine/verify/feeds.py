"""What a model is run on: the uploaded data, else random inputs of a size that the upload takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from api_schemas.jobs import InputSpec, InputSpecs
from api_schemas.models import TensorInfo
from api_schemas.report import DataSource
from worker.engine.context import Context
from worker.engine.data import Batch, Dataset, random_batches
from worker.engine.errors import ModelNotRunnableError, NeedsInputsError
from worker.engine.formats.base import Runner

RANDOM_ROWS = 8
#: Rows of data in one run, and most rows that outputs are compared on.
BATCH = 64
MOST_ROWS = 10_000
#: Sizes tried for open dimensions that neither file nor request fixes.
_OPEN_SIZES = (64, 224, 512, 1)


@final
@dataclass(frozen=True)
class Feeds:
    """Where batches come from; `reason` says why there are none."""

    source: DataSource
    data: Dataset | None
    infos: Sequence[TensorInfo]
    inputs: InputSpecs
    seed: int
    reason: str | None = None

    def batches(self, rows: int, size: int) -> Iterable[Batch]:
        """Batches of `size` rows, up to so many in all; random ones have one row each, and are few."""
        if self.reason is not None:
            return ()
        if self.data is not None:
            return self.data.batches(self.data.bound_batch or size, rows)
        return random_batches(self.infos, min(rows, RANDOM_ROWS), 1, self.seed, self.inputs)


def find_feeds(
    data: Dataset | None, inputs: InputSpecs, infos: Sequence[TensorInfo], runner: Runner, context: Context
) -> Feeds:
    """Batches that the upload runs on: the data, else random ones of the first size that it takes."""
    if data is not None:
        return Feeds(DataSource.DATASET, data, infos, inputs, context.seed)
    reason = "the model has no input"
    for size in _OPEN_SIZES:
        feeds = Feeds(DataSource.RANDOM, None, infos, _closed(infos, inputs, size), context.seed)
        try:
            runner.run(next(iter(feeds.batches(1, 1))).feeds)
        except (ModelNotRunnableError, NeedsInputsError) as error:
            reason = str(error)[:300]
        else:
            return feeds
    context.warn(
        f"the model was not run, for random inputs do not suit it ({reason}); upload data to compare outputs"
    )
    return Feeds(DataSource.RANDOM, None, infos, {}, context.seed, reason)


def _closed(infos: Sequence[TensorInfo], given: InputSpecs, size: int) -> InputSpecs:
    """Shapes with every open dimension but the batch at `size`; given ones as given."""
    found = dict(given)
    for info in infos:
        if (
            info.name not in found
            and info.shape is not None
            and any(not isinstance(d, int) for d in info.shape)
        ):
            shape = [
                d if isinstance(d, int) else 1 if axis == 0 else size for axis, d in enumerate(info.shape)
            ]
            found[info.name] = InputSpec(shape=shape)
    return found
