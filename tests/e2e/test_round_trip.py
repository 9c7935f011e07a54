"""A model goes in and comes back pruned, by command and by SDK; other code counts the zeros."""

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from api_schemas.events import EventType
from api_schemas.jobs import Job, JobStatus
from api_schemas.report import Report
from benchmarks.model_run import runs, same_interface
from benchmarks.recount import recount
from client import Lookahead
from demo.serving import Served
from tests.e2e import files
from tests.e2e.commands import answer, lookahead

MAKERS = {"onnx": files.onnx_file, "torchscript": files.torchscript_file}
SHAPES = {files.INPUT: [1, 3, 8, 8]}


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path)


def assert_is_as_reported(before: Path, after: Path, report: Report) -> None:
    counted = recount(before, after, [layer.weight for layer in report.layers])
    assert counted.kept_are_same and counted.others_are_same
    assert counted.sparsity == report.summary.sparsity == report.achieved
    assert sum(layer.zeros_after for layer in report.layers) == counted.zeros
    for layer in report.layers:
        own = recount(before, after, [layer.weight])
        assert own.zeros == own.weights - round(own.weights * (1 - 0.8)), layer.name
    assert same_interface(before, after) and runs(after, SHAPES)
    assert hashlib.sha256(after.read_bytes()).hexdigest() == report.after.sha256


def test_by_command(service: Served, model: Path, tmp_path: Path) -> None:
    data, after, page = files.data_file(tmp_path), tmp_path / f"out{model.suffix}", tmp_path / "report.html"
    arguments = ["prune", model, "--preset", "lookahead", "--sparsity", "0.8", "--data", data, "-o", after]
    arguments += ["--set", "recovery.name=none", "--report", page, "--json"]
    done = answer(lookahead(service.url, *arguments))
    job = Job.model_validate(done["job"])
    assert job.status is JobStatus.SUCCEEDED and job.attempts == 1
    report = Report.model_validate(answer(lookahead(service.url, "report", job.id, "--json")))
    assert_is_as_reported(model, after, report)
    assert report.accuracy is not None and report.accuracy.rows == files.ROWS
    text = page.read_text()
    assert "<script" not in text and not re.search(r"(src|href)=.?https?:", text)


def test_by_sdk(client: Lookahead, model: Path, tmp_path: Path) -> None:
    uploaded = client.upload_model(model)
    dataset = client.upload_dataset(files.data_file(tmp_path))
    inspected = client.inspect(uploaded.id, timeout=120)
    assert inspected.layers is not None and any(layer.prunable for layer in inspected.layers)
    recipe = {"preset": "lookahead", "target": {"sparsity": 0.8}, "recovery": {"name": "none"}}
    options = {"recipe": recipe, "dataset_id": dataset.id}
    planned = client.validate(uploaded.id, **options)
    assert planned.valid, planned.error
    job = client.submit(uploaded.id, **options, metadata={"from": "a test"})
    seen: list[EventType] = []
    ended = client.wait(job.id, timeout=120, on_event=lambda _job, event: seen.append(event.type))
    assert ended.status is JobStatus.SUCCEEDED and ended.metadata == {"from": "a test"}
    assert EventType.STAGE in seen and seen[-1] is EventType.STATUS
    report = client.report(job.id)
    assert planned.sparsity == pytest.approx(report.achieved, abs=1e-12)
    assert_is_as_reported(model, client.download(job.id, tmp_path / "back"), report)


def test_the_same_file_recipe_and_seed_give_the_same_bytes(client: Lookahead, model: Path) -> None:
    jobs = client.wait(
        [client.prune(model, preset="lookahead", sparsity=0.8, inputs=SHAPES).id for _ in range(2)],
        timeout=120,
    )
    digests = {client.report(job.id).after.sha256 for job in jobs}
    assert len(digests) == 1


@pytest.mark.parametrize("pack", [False, True], ids=["parts", "zip"])
def test_external_data_comes_along(client: Lookahead, tmp_path: Path, pack: bool) -> None:
    path, data = with_external_data(tmp_path)
    if pack:
        zipped = tmp_path / "model.zip"
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.write(path, path.name)
            archive.write(data, data.name)
        queued = client.prune(zipped, preset="lookahead", sparsity=0.8)
    else:
        queued = client.prune(path, preset="lookahead", sparsity=0.8, external_data=[data])
    ended = client.wait(queued.id, timeout=120)
    assert ended.status is JobStatus.SUCCEEDED, ended.error
    assert_is_as_reported(path, client.download(ended.id, tmp_path / "back"), client.report(ended.id))


def with_external_data(folder: Path) -> tuple[Path, Path]:
    import onnx

    model = onnx.load(files.onnx_file(folder))
    path = folder / "external.onnx"
    onnx.save(model, path, save_as_external_data=True, location="external.data", size_threshold=0)
    return path, folder / "external.data"


def test_pages_list_what_was_done(client: Lookahead, tmp_path: Path) -> None:
    job = client.prune(files.onnx_file(tmp_path, seed=7), preset="magnitude", sparsity=0.5)
    client.wait(job.id, timeout=120)
    assert job.id in [item.id for item in client.jobs(status=JobStatus.SUCCEEDED, limit=10).items]
    assert job.model_id in [item.id for item in client.models(limit=10).items]


def test_cancelling_a_queued_or_running_job(client: Lookahead, tmp_path: Path) -> None:
    job = client.prune(files.onnx_file(tmp_path, seed=8), preset="lookahead", sparsity=0.5)
    client.cancel(job.id)
    assert client.wait(job.id, timeout=60).status is JobStatus.CANCELLED
