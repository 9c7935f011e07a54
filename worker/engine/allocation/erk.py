"""ERK: Erdős–Rényi kernel."""

from collections.abc import Sequence
from typing import ClassVar, final

from api_schemas.catalogue import Requirements
from worker.engine.allocation.apportioned import apportion
from worker.engine.allocation.base import Allocation, Plans, Ranking
from worker.engine.allocation.proportional import LAYERWISE, select_counted, weight_count
from worker.engine.granularity.base import Block


@final
class Erk(Allocation):
    """Every layer keeps a number of weights in proportion to inputs + outputs + kernel height + kernel width
    (inputs per group, where grouped). A layer that would need more than it has stays dense and the others
    share the rest. Exact in total; layers named in `layers` get their own."""

    name: ClassVar[str] = "erk"
    source: ClassVar[str | None] = "Evci et al., ICML 2020, arXiv 1911.11134; as in Lee et al., ICLR 2021"

    @classmethod
    def requires(cls) -> Requirements:
        return LAYERWISE

    def select(self, ranking: Ranking) -> Plans:
        return select_counted(ranking, _counts)


def _counts(blocks: Sequence[Block], total: int) -> list[int]:
    sizes = [weight_count(block) for block in blocks]
    return apportion([_extent(block) for block in blocks], [0] * len(blocks), sizes, total)


def _extent(block: Block) -> float:
    """n_in + n_out + the kernel's extents."""
    groups, outputs, inputs, *taps = block.layers[0].view.seen_shape()
    return float(groups * outputs + inputs + sum(taps))
