"""Uniform+: uniform but for the first and the last layer."""

from collections.abc import Sequence
from typing import ClassVar, final

from api_schemas.catalogue import Requirements
from worker.engine.allocation.apportioned import apportion
from worker.engine.allocation.base import Allocation, Plans, Ranking
from worker.engine.allocation.proportional import LAYERWISE, select_counted, weight_count
from worker.engine.errors import InvalidRecipeError
from worker.engine.granularity.base import Block

#: Least share of its original size that the last layer keeps.
_LAST = 0.2


@final
class UniformPlus(Allocation):
    """The first layer stays dense if it is a convolution, the last keeps at least 20 % of its weights, and
    what must go is spread evenly over the rest. Exact in total; layers named in `layers` get their own."""

    name: ClassVar[str] = "uniform_plus"
    source: ClassVar[str | None] = "Gale et al. 2019, arXiv 1902.09574; as in Lee et al., ICLR 2021"

    @classmethod
    def requires(cls) -> Requirements:
        return LAYERWISE

    def select(self, ranking: Ranking) -> Plans:
        first, last = ranking.blocks[0], ranking.blocks[-1]
        return select_counted(ranking, lambda blocks, total: _counts(blocks, total, first, last))


def _counts(blocks: Sequence[Block], total: int, first: Block, last: Block) -> list[int]:
    sizes = [weight_count(block) for block in blocks]
    lows = [_least(block, first, last) for block in blocks]
    if sum(lows) > total:
        raise InvalidRecipeError(
            f"uniform_plus keeps the first convolution dense and {_LAST:.0%} of the last layer: "
            f"{sum(lows):,} weights, where this sparsity leaves {total:,}",
            hint=f"ask for a sparsity of at most {1.0 - sum(lows) / sum(sizes):.4f}",
        )
    return apportion(sizes, lows, sizes, total)


def _least(block: Block, first: Block, last: Block) -> int:
    if block is first and "Conv" in block.layers[0].op:
        return weight_count(block)
    return round(_LAST * weight_count(block)) if block is last else 0
