"""What recovery gained: the losses of a training as a drawing, and in which kind its metric reads best."""

import math
from typing import TypeGuard

from markupsafe import Markup

from api_schemas.report import RecoveryReport
from worker.engine.report.curves import Line, Scale, lines
from worker.engine.report.figures import large, significant
from worker.engine.report.wording import is_share

#: A loss that falls by more than this factor is drawn over its logarithm.
_STEEP = 20.0
_LARGEST = 300.0  # powers of ten that a float can hold


def loss_curve(recovery: RecoveryReport) -> Markup | None:
    """Mean training loss and the loss on held-out rows over the steps; None where nothing was trained."""
    trained = [(point.step, point.loss) for point in recovery.curve if _finite(point.loss)]
    judged = [(p.step, p.validation_loss) for p in recovery.curve if _finite(p.validation_loss)]
    losses = [loss for _, loss in (*trained, *judged)]
    steep = bool(losses) and min(losses) > 0 and max(losses) > _STEEP * min(losses)
    across, up = (
        Scale("steps", large),
        Scale("loss (log scale)", _power) if steep else Scale("loss", significant),
    )
    drawn = [
        Line([(float(step), math.log10(loss) if steep else loss) for step, loss in points], css)
        for points, css in ((trained, "curve faint"), (judged, "curve"))
    ]
    return lines(drawn, across, up)


def _finite(loss: float | None) -> TypeGuard[float]:
    return loss is not None and math.isfinite(loss)


def metric_kind(recovery: RecoveryReport) -> str:
    """Percent for shares of right answers."""
    return "percent" if is_share(recovery.metric or "") else "number"


def _power(exponent: float) -> str:
    return significant(10.0 ** max(-_LARGEST, min(_LARGEST, exponent)))
