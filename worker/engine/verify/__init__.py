"""What the engine checks and measures about its own output. Functions of files, arrays and runners."""

from worker.engine.verify.comparison import Comparison, compare
from worker.engine.verify.latency import measure_latency
from worker.engine.verify.size import FileSize, measure_size
from worker.engine.verify.structure import check_structure
from worker.engine.verify.weights import LayerWeights, Recount, count_zeros, recount, weight_checks

__all__ = [
    "Comparison",
    "FileSize",
    "LayerWeights",
    "Recount",
    "check_structure",
    "compare",
    "count_zeros",
    "measure_latency",
    "measure_size",
    "recount",
    "weight_checks",
]
