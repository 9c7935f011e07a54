"""`POST /v1/jobs`, listing, cancelling: a request becomes exactly one job or a reason why not."""

import threading
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api_schemas.errors import ErrorCode
from api_schemas.ids import new_dataset_id, new_model_id
from api_schemas.jobs import Job
from api_schemas.recipe import Recipe
from service.context import Context
from store.records import JobKind
from tests.service.conftest import MakeClient, RecordingDoorbell
from tests.service.files import npz_bytes, onnx_bytes, torchscript_bytes
from tests.service.jobs.requests import body
from tests.service.workers import Hand, inspection


@pytest.fixture
def inspected(hand: Hand, model_id: str) -> str:
    hand.inspect()
    return model_id


def submit(client: TestClient, document: Any, **headers: str) -> Any:
    return client.post("/v1/jobs", json=document, headers=headers)


def refusal(client: TestClient, document: Any) -> tuple[int, str, list[str]]:
    answer = submit(client, document)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert client.get("/v1/jobs").json()["items"] == []
    return answer.status_code, problem["code"], [error["pointer"] for error in problem["errors"]]


def upload(client: TestClient, **arrays: Any) -> str:
    answer = client.post("/v1/datasets", content=npz_bytes(**arrays))
    assert answer.status_code == 201
    found: str = answer.json()["id"]
    return found


def test_a_job_is_accepted(client: TestClient, inspected: str, doorbell: RecordingDoorbell) -> None:
    answer = submit(client, body(inspected))
    job = Job.model_validate(answer.json())
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job.id}" == job.links.self
    assert int(answer.headers["retry-after"]) > 0
    assert (job.status, job.attempts, job.links.report, job.links.model) == ("queued", 0, None, None)
    assert doorbell.rung[-1] == job.id
    assert client.get(job.links.self).json() == answer.json()


def test_the_recipe_comes_back_resolved_and_means_the_same_when_posted_again(
    client: TestClient, inspected: str
) -> None:
    first = submit(client, body(inspected, seed=7, exclude=["head.*"])).json()["recipe"]
    recipe = Recipe.model_validate(first)
    assert recipe.criterion.params == {"squared": True}
    assert (recipe.allocation.name, recipe.schedule.name, recipe.seed) == ("uniform", "one_shot", 7)
    again = submit(client, {"model_id": inspected, "recipe": first})
    assert again.status_code == 202, again.text
    assert again.json()["recipe"] == first


def test_output_may_stand_beside_the_recipe(client: TestClient, inspected: str) -> None:
    document = body(inspected) | {"output": {"format": "onnx"}}
    assert submit(client, document).json()["recipe"]["output"] == {"format": "onnx"}


def test_parts_replace_those_of_the_preset(client: TestClient, inspected: str) -> None:
    recipe = submit(client, body(inspected, criterion={"name": "magnitude"})).json()["recipe"]
    assert (recipe["preset"], recipe["criterion"]) == ("lookahead", {"name": "magnitude"})


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"preset": "nonsense"}, "/recipe/preset"),
        ({"criterion": {"name": "nonsense"}}, "/recipe/criterion/name"),
        ({"criterion": {"name": "lookahead", "squared": "yes"}}, "/recipe/criterion/squared"),
        ({"criterion": {"name": "lookahead", "typo": 1}}, "/recipe/criterion"),
        ({"target": None}, "/recipe/target"),
        ({"target": {"sparsity": 1.5}}, "/recipe/target/sparsity"),
        ({"target": {"sparsity": 0.5, "macs": 0.5}}, "/recipe/target"),
        (
            {"allocation": {"name": "global"}, "granularity": {"name": "channel"}, "apply": {"name": "mask"}},
            "/recipe/allocation",
        ),
        ({"allocation": {"name": "search"}}, "/recipe/target"),
        ({"allocation": {"name": "given"}, "target": None}, "/recipe/layers"),
        ({"layers": {"nonsense": {"sparsity": 0.5}}}, "/recipe/layers/nonsense"),
        ({"typo": 1}, "/recipe/typo"),
    ],
)
def test_what_does_not_fit_is_pointed_at(
    client: TestClient, inspected: str, changes: dict[str, Any], pointer: str
) -> None:
    assert refusal(client, body(inspected, **changes)) == (422, "invalid_recipe", [pointer])


def test_a_pattern_that_says_its_own_share_needs_no_target(client: TestClient, inspected: str) -> None:
    answer = submit(client, body(inspected, granularity={"name": "n:m"}, target=None))
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("name", ["conv1", "conv*", "conv1.weight"])
def test_layers_are_named_exactly_by_glob_or_by_weight(client: TestClient, inspected: str, name: str) -> None:
    assert submit(client, body(inspected, layers={name: {"sparsity": 0.5}})).status_code == 202


def test_groups_of_channels_may_be_named_too(client: TestClient, hand: Hand, model_id: str) -> None:
    groups = [{"name": "conv1", "channels": 2, "layers": ["conv1"]},
              {"name": "conv1/2", "channels": 2, "layers": ["conv1"]}]  # fmt: skip
    hand.inspect(inspection(groups=groups))
    assert client.get(f"/v1/models/{model_id}").json()["groups"][1]["name"] == "conv1/2"
    document = body(model_id, layers={"conv1/3": {"sparsity": 0.5}})
    assert refusal(client, document) == (422, "invalid_recipe", ["/recipe/layers/conv1~13"])
    document = body(model_id, layers={"conv1/2": {"sparsity": 0.5}})
    assert submit(client, document).status_code == 202


@pytest.mark.parametrize("unit", ["parameters", "macs", "size_bytes", "latency"])
def test_targets_of_any_unit_are_taken(client: TestClient, inspected: str, unit: str) -> None:
    answer = submit(client, body(inspected, target={unit: 0.5}))
    assert (answer.status_code, answer.json()["recipe"]["target"][unit]) == (202, 0.5)


def test_given_layers_need_no_target(client: TestClient, inspected: str) -> None:
    document = body(inspected, allocation={"name": "given"}, target=None, layers={"conv1": {"sparsity": 1}})
    assert submit(client, document).status_code == 202


def test_unknown_model_and_dataset_are_404(client: TestClient, inspected: str) -> None:
    assert refusal(client, body(new_model_id()))[:2] == (404, "not_found")
    assert refusal(client, body(inspected, new_dataset_id()))[:2] == (404, "not_found")


def test_methods_that_need_data_or_labels_say_so_first(client: TestClient, inspected: str) -> None:
    pixels = np.zeros((2, 1, 8, 8), np.float32)
    unlabelled = upload(client, x=pixels)
    labelled = upload(client, x=pixels, targets=[1, 0])
    wanda, taylor = {"criterion": {"name": "wanda"}}, {"criterion": {"name": "taylor"}}
    by_accuracy = {"target": {"accuracy_drop": 1}}
    assert refusal(client, body(inspected, **wanda))[:2] == (422, "needs_dataset")
    assert refusal(client, body(inspected, **taylor))[:2] == (422, "needs_labels")
    assert refusal(client, body(inspected, unlabelled, **taylor))[:2] == (422, "needs_labels")
    assert refusal(client, body(inspected, unlabelled, **by_accuracy))[:2] == (422, "needs_labels")
    assert submit(client, body(inspected, unlabelled, **wanda)).status_code == 202
    assert submit(client, body(inspected, labelled, **taylor, **by_accuracy)).status_code == 202


def test_arrays_must_be_named_like_the_inputs(client: TestClient, hand: Hand, model_id: str) -> None:
    inputs = [{"name": name, "dtype": "float32", "shape": ["n", 4]} for name in ("a", "b")]
    hand.inspect(inspection(inputs=inputs))
    row = np.zeros((1, 4), np.float32)
    wrong = upload(client, a=row, c=row)
    answer = submit(client, body(model_id, wrong))
    assert (answer.status_code, answer.json()["code"]) == (422, "needs_dataset")
    assert "'b'" in answer.json()["detail"]
    assert "arrays are a, c" in answer.json()["hint"]
    assert submit(client, body(model_id, upload(client, a=row, b=row))).status_code == 202
    constant = body(model_id, upload(client, a=row)) | {"inputs": {"b": {"value": 3}}}
    assert submit(client, constant).status_code == 202


def test_a_single_array_fits_a_single_input(client: TestClient, inspected: str) -> None:
    pixels = np.zeros((1, 1, 8, 8), np.float32)
    assert submit(client, body(inspected, upload(client, pictures=pixels, targets=[1]))).status_code == 202


def test_torchscript_without_shapes_needs_inputs(client: TestClient, hand: Hand, model_id: str) -> None:
    inputs = [{"name": "x", "dtype": "float32", "shape": None}]
    hand.inspect(inspection(format="torchscript", inputs=inputs))
    answer = submit(client, body(model_id))
    assert (answer.status_code, answer.json()["code"]) == (422, "needs_inputs")
    assert '"x": [1, 3, 32, 32]' in answer.json()["hint"]
    assert submit(client, body(model_id) | {"inputs": {"x": [1, 4]}}).status_code == 202
    assert submit(client, body(model_id, upload(client, x=[[1.0]]))).status_code == 202


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.INVALID_MODEL, 422),
        (ErrorCode.UNSUPPORTED_FORMAT, 415),
        (ErrorCode.OUT_OF_MEMORY, 422),
        (ErrorCode.WORKER_LOST, 422),
    ],
)
def test_a_model_that_failed_inspection_is_refused_with_that_reason(
    client: TestClient, hand: Hand, model_id: str, code: ErrorCode, status: int
) -> None:
    hand.reject(code)
    answer = submit(client, body(model_id))
    assert (answer.status_code, answer.json()["code"]) == (status, code.value)
    assert (answer.json()["detail"], answer.json()["hint"]) == ("It is broken.", "Mend it.")


def test_a_model_with_nothing_to_prune_is_refused(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect(inspection(layers=[]))
    assert refusal(client, body(model_id))[:2] == (422, "invalid_model")


def test_a_job_may_be_queued_before_the_inspection(client: TestClient, model_id: str) -> None:
    assert submit(client, body(model_id)).status_code == 202


def test_equal_requests_with_one_key_make_one_job(client: TestClient, inspected: str) -> None:
    first = submit(client, body(inspected), **{"Idempotency-Key": "k"})
    again = submit(client, body(inspected), **{"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (202, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = submit(client, body(inspected, seed=1), **{"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_key_still_answers_after_the_model_is_gone(client: TestClient, inspected: str) -> None:
    first = submit(client, body(inspected), **{"Idempotency-Key": "k"}).json()
    client.post(f"/v1/jobs/{first['id']}/cancel")
    assert client.delete(f"/v1/models/{inspected}").status_code == 204
    assert submit(client, body(inspected), **{"Idempotency-Key": "k"}).json()["id"] == first["id"]


def test_equal_requests_at_the_same_time_make_one_job(client: TestClient, inspected: str) -> None:
    found: list[str] = []

    def post() -> None:
        found.append(submit(client, body(inspected), **{"Idempotency-Key": "same"}).json()["id"])

    threads = [threading.Thread(target=post) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"{", 400),
        (b'"\xff"', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 80 + b"1" + b"}" * 80, 400),
        (b"[]", 422),
        (b"", 422),
        (b'{"model_id": "\\u0000"}', 422),
        (b'{"model_id": "\\ud800"}', 422),
        (b'{"recipe": {"criterion": {"name": "x", "p": NaN}}}', 422),
        (b'{"recipe": {"criterion": {"name": "x", "p": 1e999}}}', 422),
        (b'{"recipe": {"criterion": {"name": "x", "p": 99999999999999999999}}}', 422),
    ],
)
def test_bodies_that_are_no_usable_json(client: TestClient, raw: bytes, status: int) -> None:
    answer = client.post("/v1/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, "invalid_recipe")


@pytest.mark.parametrize("declared", [True, False])
def test_a_giant_json_body_is_413(make_client: MakeClient, declared: bool) -> None:
    client = make_client(max_json_bytes=1000)
    data = b'{"a": "' + b"x" * 2000 + b'"}'
    content: Any = data if declared else iter([data[:500], data[500:]])
    answer = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_webhook_addresses_are_checked(client: TestClient, inspected: str) -> None:
    for url in ("http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://u:p@example.com/"):
        answer = submit(client, body(inspected) | {"webhook": {"url": url}})
        assert answer.status_code == 422, url
        assert answer.json()["errors"][0]["pointer"] == "/webhook/url"
    fine = body(inspected) | {"webhook": {"url": "https://example.com/hook"}}
    assert submit(client, fine).status_code == 202


def test_listing_by_status_and_in_pages(client: TestClient, inspected: str, hand: Hand) -> None:
    made = [submit(client, body(inspected)).json()["id"] for _ in range(4)]
    hand.finish(hand.start())
    queued = client.get("/v1/jobs?status=queued&limit=2").json()
    rest = client.get("/v1/jobs", params={"status": "queued", "cursor": queued["next_cursor"]}).json()
    assert [job["id"] for job in queued["items"] + rest["items"]] == made[:0:-1]
    assert [job["id"] for job in client.get("/v1/jobs?status=succeeded").json()["items"]] == made[:1]
    assert client.get("/v1/jobs?status=nonsense").status_code == 422
    assert client.get("/v1/jobs?limit=0").status_code == 422


def test_a_strange_cursor_is_422(client: TestClient) -> None:
    answer = client.get("/v1/jobs?cursor=nonsense")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/cursor")


def test_helper_jobs_are_invisible(client: TestClient, context: Context, model_id: str) -> None:
    helper = context.store.jobs.list(kind=JobKind.INSPECT).items[0].id
    assert client.get("/v1/jobs").json()["items"] == []
    for call in ("", "/events", "/report", "/model"):
        assert client.get(f"/v1/jobs/{helper}{call}").status_code == 404
    assert client.post(f"/v1/jobs/{helper}/cancel").status_code == 404


def test_cancelling(client: TestClient, inspected: str, hand: Hand, context: Context) -> None:
    queued = submit(client, body(inspected)).json()["id"]
    answer = client.post(f"/v1/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert client.post(f"/v1/jobs/{queued}/cancel").json()["code"] == "conflict"
    running = submit(client, body(inspected)).json()["id"]
    claim = hand.start()
    answer = client.post(f"/v1/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert context.store.jobs.heartbeat(claim).cancel_requested


def test_the_inspection_queue_needs_no_dataset(client: TestClient) -> None:
    """Two uploads of different content are two inspections, none of which shows among the jobs."""
    for payload in (b"1", b"2"):
        assert client.post("/v1/models", content=onnx_bytes(payload)).status_code == 201
    assert client.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ({"x": [1, 5, 5]}, "/inputs/x", "is ['n', 1, 8, 8] in the file"),
        ({"x": [1, 1, 8, 9]}, "/inputs/x", "is ['n', 1, 8, 8] in the file"),
        ({"x": {"shape": [2, 3, 8, 8]}}, "/inputs/x", "is ['n', 1, 8, 8] in the file"),
        ({"z": [1, 1, 8, 8]}, "/inputs/z", "the model has no input 'z'; it has x"),
    ],
)
def test_inputs_that_contradict_the_file_are_refused(
    client: TestClient, inspected: str, given: Any, pointer: str, words: str
) -> None:
    answer = submit(client, body(inspected) | {"inputs": given})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_recipe")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert words in error["message"]


@pytest.mark.parametrize("given", [{"x": [1, 1, 8, 8]}, {"x": {"shape": [32, 1, 8, 8]}}, {"x": {"value": 3}}])
def test_inputs_that_complete_the_file_are_taken(client: TestClient, inspected: str, given: Any) -> None:
    answer = submit(client, body(inspected) | {"inputs": given})
    assert answer.status_code == 202, answer.text


def test_another_format_than_the_uploads_is_refused_at_once(client: TestClient, hand: Hand) -> None:
    made = client.post("/v1/models?filename=net.pt", content=torchscript_bytes())
    assert made.json()["format"] == "torchscript"
    wanted = {"inputs": {"x": [1, 1, 8, 8]}, "output": {"format": "onnx"}}
    assert refusal(client, body(made.json()["id"]) | wanted) == (422, "invalid_recipe", ["/output/format"])
    wanted["output"] = {"format": "same"}
    assert submit(client, body(made.json()["id"]) | wanted).status_code == 202


def test_an_onnx_file_may_be_asked_for_as_onnx(client: TestClient, inspected: str) -> None:
    assert submit(client, body(inspected) | {"output": {"format": "onnx"}}).status_code == 202
