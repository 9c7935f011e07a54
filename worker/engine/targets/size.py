"""File size."""

from typing import ClassVar, final

from api_schemas.report import Report
from worker.engine.case import Case
from worker.engine.targets.base import Written
from worker.engine.types import Plan
from worker.engine.verify.size import measure_size


@final
class SizeBytes(Written):
    """Bytes of the file, over those of the original. A masked file is as large as before: there it is bytes
    after zstd, as a download or a disk that compresses has them."""

    unit: ClassVar[str] = "size_bytes"
    noun: ClassVar[str] = "file size"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        before = measure_size(case.model)
        self._before = before.size_bytes if case.shrinks else before.compressed_bytes

    def figure(self, plan: Plan) -> float:
        with self.written(plan) as path:
            after = path.stat().st_size if self.case.shrinks else measure_size(path).compressed_bytes
        return after / self._before

    @staticmethod
    def achieved(report: Report) -> float | None:
        if report.recipe.apply.name == "shrink":
            return report.after.size_bytes / report.before.size_bytes
        return report.after.compressed_bytes / report.before.compressed_bytes

    def shown(self, figure: float) -> str:
        return super().shown(figure) + ("" if self.case.shrinks else ", both after zstd")
