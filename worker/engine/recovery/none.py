"""No recovery."""

from collections.abc import Sequence
from typing import ClassVar, final

from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.recovery.base import Pruned, Recovery


@final
class NoRecovery(Recovery):
    """Nothing: the kept weights stay bit for bit what they were."""

    name: ClassVar[str] = "none"

    def course(self, data: Dataset | None) -> Sequence[Recovery]:
        return ()

    def heal(self, pruned: Pruned, context: Context) -> None:
        return None
