"""Fine-tuning by several confined processes of the real engine: one network, that of one process alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from api_schemas.jobs import ChildOrder, ChildResult
from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import CurvePoint, Report
from tests.engine.learning.digits import as_onnx, convolutional, digits, perceptron, trained
from worker.crew import Crew
from worker.nursery import Nursery
from worker.process import Launch
from worker.protocol import ChildStart
from worker.sandbox import Limits

pytestmark = pytest.mark.slow
#: Nine epochs and a part of one, so that rows are left over at the end of each.
FINE_TUNE = {"name": "fine_tune", "steps": 200, "batch": 64, "learning_rate": 2e-3, "patience": None}
LIMITS = Limits(cpu_seconds=600, memory_bytes=4 << 30, file_bytes=1 << 30)


def order_in(folder: Path, make: Any, recipe: Mapping[str, Any], rows: int | None = None) -> ChildOrder:
    """The files where a supervisor puts them, and the order for them; the model may be bound to some rows."""
    as_onnx(trained(make), folder / "model.onnx", batch=rows)
    images, labels = digits()
    np.savez(folder / "dataset.npz", input=images, targets=labels)
    asked = {
        "criterion": {"name": "magnitude"},
        "granularity": {"name": "element"},
        "target": {"sparsity": 0.9},
        "seed": 3,
        **recipe,
    }
    return ChildOrder(
        kind="prune",
        job_id="job_together",
        model="input/model.onnx",
        filename="model.onnx",
        dataset="input/dataset.npz",
        recipe=resolve(RecipeRequest.model_validate(asked), {}),
        device="cpu",
        threads=1,
        sandbox="strict",
    )


def done(crew: Crew) -> Sequence[ChildResult]:
    """What all of them come to, once all have gone."""
    while not all(member.silent and member.returncode is not None for member in crew.members):
        crew.listen(0.1)
        for member in crew.members:
            member.listen(0)
    assert [member.returncode for member in crew.members] == [0] * len(crew.members), crew.leader.log_tail
    return [member.result for member in crew.members if member.result is not None]


def trained_by(
    scratch: Path, processes: int, make: Any, recipe: Mapping[str, Any], rows: int | None = None
) -> tuple[Report, list[bytes]]:
    """The report, and the file that each process has in the end."""
    nursery = Nursery(Launch(scratch, processes=processes))
    crew = nursery.take(several=True)
    try:
        assert [member.ready and member.ready.ready for member in crew.members] == ["strict"] * processes
        order = order_in(crew.directory.input, make, recipe, rows)
        crew.send(ChildStart(order=order, limits=LIMITS), 300.0)
        results = done(crew)
        assert [result.error for result in results] == [None] * processes, crew.leader.log_tail
        report = Report.model_validate_json((crew.directory.output / "report.json").read_bytes())
        return report, [(member.directory.output / "pruned.onnx").read_bytes() for member in crew.members]
    finally:
        crew.close()


def curve(report: Report) -> Sequence[CurvePoint]:
    (told,) = report.recovery
    assert told.kept and told.steps == FINE_TUNE["steps"]
    return told.curve


def weights(content: bytes) -> dict[str, np.ndarray]:
    found = onnx.load_from_string(content).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in found}


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_make_the_curve_and_the_network_of_one(tmp_path: Path, processes: int) -> None:
    """Three get parts of the 64 rows that are not equal."""
    recipe = {"recovery": {**FINE_TUNE, "optimiser": "sgd", "learning_rate": 0.02, "weight_decay": 0.0}}
    report, (file, *others) = trained_by(tmp_path, processes, perceptron, recipe)
    alone, (expected,) = trained_by(tmp_path, 1, perceptron, recipe)
    assert others == [file] * (processes - 1)
    assert (report.environment.processes, alone.environment.processes) == (processes, 1)
    losses, losses_alone = ([point.loss for point in curve(each)] for each in (report, alone))
    assert len(losses) == len(losses_alone) == 200
    assert losses_alone[0] > 2 * losses_alone[-1], "it learns"
    np.testing.assert_allclose(losses, losses_alone, rtol=1e-5)
    found, wanted = weights(file), weights(expected)
    for name, tensor in wanted.items():
        assert np.array_equal(found[name] == 0, tensor == 0), "the mask holds"
        np.testing.assert_allclose(found[name], tensor, atol=1e-5)


def test_a_model_bound_to_few_rows_is_run_several_times_in_each(tmp_path: Path) -> None:
    recipe = {"recovery": {**FINE_TUNE, "optimiser": "sgd", "learning_rate": 0.02}}
    report, (file, other) = trained_by(tmp_path, 2, perceptron, recipe, rows=16)
    alone, _ = trained_by(tmp_path, 1, perceptron, recipe, rows=16)
    losses, losses_alone = ([point.loss for point in curve(each)] for each in (report, alone))
    assert file == other
    np.testing.assert_allclose(losses, losses_alone, rtol=1e-5)


@pytest.mark.parametrize("name", ["fine_tune", "auto"])
def test_batch_norm_trials_and_closed_forms_end_alike_in_all_and_every_time(
    tmp_path: Path, name: str
) -> None:
    """Statistics of the batch differ between processes; what is kept is the first one's."""
    recipe = {"recovery": {"name": name, "steps": 60}}
    report, files = trained_by(tmp_path, 2, convolutional, recipe)
    _, again = trained_by(tmp_path, 2, convolutional, recipe)
    assert files[0] == files[1] == again[0]
    assert report.environment.processes == 2 and report.environment.sandbox == "strict"
    assert report.summary.accuracy_after is not None and report.summary.accuracy_after > 0.5


def test_a_search_that_trains_takes_the_same_turns_in_all(tmp_path: Path) -> None:
    recipe = {
        "recovery": {**FINE_TUNE, "steps": 20},
        "target": {"accuracy_drop": 3.0},
    }
    report, files = trained_by(tmp_path, 2, perceptron, recipe)
    assert len(report.target_probes) > 2
    assert files[0] == files[1] and report.target_achieved is not None and report.target_achieved <= 3.0
