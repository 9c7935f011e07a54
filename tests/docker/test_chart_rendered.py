"""What Helm makes of the chart; skipped where no `helm` is on the path.

Kubernetes' own schemas are asked where the package `kubernetes-validate` is installed.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import ServiceSettings
from tests.docker.loading import DOCKER
from tests.docker.test_chart import CHART, CI
from tests.docker.test_files import SETTINGS
from worker.settings import WorkerSettings

_HELM = shutil.which("helm")
pytestmark = pytest.mark.skipif(_HELM is None, reason="no helm on the path")

_SETS = {"default": None} | {path.stem.removesuffix("-values"): path for path in CI}
_ADDED = ("monitoring.coreos.com", "keda.sh")


def _template(values: Path | None) -> subprocess.CompletedProcess[str]:
    given = [] if values is None else ["--values", str(values)]
    command = [str(_HELM), "template", "lookahead", str(CHART), "--namespace", "prune", *given]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _objects(values: Path | None) -> list[dict[str, Any]]:
    ended = _template(values)
    assert ended.returncode == 0, ended.stderr
    return [document for document in yaml.safe_load_all(ended.stdout) if document]


@pytest.fixture(scope="module", params=_SETS)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return _objects(_SETS[request.param])


@pytest.fixture(scope="module")
def everything() -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in _objects(_SETS["everything"])}


def _pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Templates of pods by the name of what makes them."""
    makers = [each for each in objects if each["kind"] in ("Deployment", "Job")]
    return {each["metadata"]["name"]: each["spec"]["template"] for each in makers}


def _environment(pod: Mapping[str, Any]) -> dict[str, Any]:
    entries = pod["spec"]["containers"][0]["env"]
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names))
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def test_names_are_unique_and_kubernetes_knows_the_kinds(objects: list[dict[str, Any]]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    schemas = pytest.importorskip("kubernetes_validate")
    for version in ("1.29", schemas.latest_version()):
        for each in objects:
            if each["apiVersion"].partition("/")[0] not in _ADDED:
                schemas.validate(each, version, strict=True)


def test_pods_meet_the_restricted_standard(objects: list[dict[str, Any]]) -> None:
    assert _pods(objects)
    for name, pod in _pods(objects).items():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/data"}
        assert "memory" in container["resources"]["limits"]


def test_a_service_cannot_become_a_setting(objects: list[dict[str, Any]]) -> None:
    """A Service `lookahead` would put LOOKAHEAD_PORT=tcp://… into every pod of its namespace."""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in _pods(objects).values())


def test_settings_are_settings_given_once_and_as_text(objects: list[dict[str, Any]]) -> None:
    for pod in _pods(objects).values():
        for name, value in _environment(pod).items():
            assert not name.startswith("LOOKAHEAD_") or name in SETTINGS
            assert isinstance(value, str | dict)


#: What the Secrets and the downward API would say.
_FILLED = {
    "LOOKAHEAD_DATABASE_URL": "postgresql://user:password@host/name",
    "LOOKAHEAD_BROKER_URL": "redis://host:6379/0",
    "LOOKAHEAD_API_KEYS": "one,two",
    "LOOKAHEAD_WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
    "LOOKAHEAD_THREADS": "4",
}


def test_processes_read_their_environment(
    objects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    for name, pod in _pods(objects).items():
        settings = WorkerSettings if "-worker-" in name else ServiceSettings
        with monkeypatch.context() as inside:
            for key, value in _environment(pod).items():
                inside.setenv(key, value if isinstance(value, str) else _FILLED.get(key, "secret"))
            read = settings()
        given = {key.removeprefix("LOOKAHEAD_").lower() for key in _environment(pod)}
        assert read.model_fields_set == given & set(settings.model_fields)


def test_selectors_find_their_pods_and_nothing_else(objects: list[dict[str, Any]]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in _pods(objects).items()}
    selecting = [each for each in objects if each["kind"] in ("Deployment", "Service", "PodDisruptionBudget")]
    assert len(selecting) > 2
    for each in selecting:
        selector = each["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        found = [name for name, given in labels.items() if wanted <= given.items()]
        assert found == [each["metadata"]["name"]]


def test_policies_cover_all_pods_and_workers_are_reached_by_nobody(
    everything: dict[tuple[str, str], dict[str, Any]],
) -> None:
    policies = [each["spec"] for (kind, _), each in everything.items() if kind == "NetworkPolicy"]
    for name, pod in _pods(list(everything.values())).items():
        labels = pod["metadata"]["labels"].items()
        (policy,) = (each for each in policies if each["podSelector"]["matchLabels"].items() <= labels)
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert ("ingress" in policy and bool(policy["ingress"])) == name.endswith("-api")
        open_rules = [rule for rule in policy["egress"] if not rule.get("to")]
        assert open_rules == []


def test_pools_differ_as_they_are_told(everything: dict[tuple[str, str], dict[str, Any]]) -> None:
    pods = _pods(list(everything.values()))
    cpu, gpu = pods["lookahead-worker-cpu"], pods["lookahead-worker-gpu"]
    assert gpu["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert _environment(gpu)["LOOKAHEAD_DEVICES"] == "2"
    assert _environment(gpu)["LOOKAHEAD_MAX_CHECKPOINT_BYTES"] == str(32 * 2**30)
    assert "NVIDIA_VISIBLE_DEVICES" not in _environment(gpu)
    assert _environment(cpu)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert _environment(cpu)["LOOKAHEAD_TORCHSCRIPT_ENABLED"] == "false"
    assert _environment(cpu)["LOOKAHEAD_THREADS"]["resourceFieldRef"]["resource"] == "limits.cpu"
    assert _environment(pods["lookahead-worker-answers"])["LOOKAHEAD_JOB_KINDS"] == "inspect,plan"
    assert cpu["spec"]["containers"][0]["image"] == "lookahead-worker:cpu"
    assert gpu["spec"]["containers"][0]["image"] == "lookahead-worker:cuda"


def test_what_scales_has_no_number_of_its_own(everything: dict[tuple[str, str], dict[str, Any]]) -> None:
    scaled = {("Deployment", "lookahead-api"), ("Deployment", "lookahead-worker-cpu")}
    deployments = {key: each for key, each in everything.items() if key[0] == "Deployment"}
    assert {key for key, each in deployments.items() if "replicas" not in each["spec"]} == scaled
    (trigger,) = everything["ScaledObject", "lookahead-worker-cpu"]["spec"]["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(max by (status) (lookahead_jobs{job="lookahead",status=~"queued|running"}))'
    )
    assert everything["ScaledObject", "lookahead-worker-cpu"]["spec"]["minReplicaCount"] == 0


def test_alerts_and_board_arrive_whole(everything: dict[tuple[str, str], dict[str, Any]]) -> None:
    monitoring = DOCKER / "monitoring"
    rules = everything["PrometheusRule", "lookahead"]["spec"]
    assert rules == yaml.safe_load((monitoring / "alerts.yml").read_text())
    board = everything["ConfigMap", "lookahead-dashboard"]["data"]["lookahead.json"]
    assert json.loads(board) == json.loads((monitoring / "grafana.json").read_text())


def test_prepare_runs_before_the_rest_with_what_it_needs() -> None:
    objects = {(each["kind"], each["metadata"]["name"]): each for each in _objects(None)}
    hooks = {key: each["metadata"].get("annotations", {}) for key, each in objects.items()}
    ours = {key for key, notes in hooks.items() if notes.get("helm.sh/hook") == "pre-install,pre-upgrade"}
    assert ours == {(kind, "lookahead-prepare") for kind in ("Job", "ServiceAccount", "NetworkPolicy")}
    weights = {kind: int(hooks[kind, name]["helm.sh/hook-weight"]) for kind, name in ours}
    assert max(weights, key=weights.__getitem__) == "Job"
    job = objects["Job", "lookahead-prepare"]["spec"]["template"]
    assert _environment(job)["LOOKAHEAD_BLOBS_URL"] == "file:///data/blobs"
    assert (
        _environment(job)["LOOKAHEAD_DATABASE_URL"]
        == (_environment(_pods(list(objects.values()))["lookahead-api"])["LOOKAHEAD_DATABASE_URL"])
    )


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Mapping[str, Any]], str]:
    def why(values: Mapping[str, Any]) -> str:
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        ended = _template(path)
        assert ended.returncode != 0
        return ended.stderr

    return why


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"api": {"keys": {"webhookSecret": ""}}}, "needed for several replicas"),
        ({"workers": {"gpu": {"enabled": True, "devices": 2}}}, "workers.gpu: 2 devices, but 1 GPUs"),
        ({"workers": {"cpu": {"scaling": {"enabled": True}}}}, "keda.prometheus.serverAddress is needed"),
        ({"settings": {"LOOKAHEAD_CHECKPOINT_SECONDS": 600}}, "is below LOOKAHEAD_CHECKPOINT_SECONDS"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
        ({"settings": {"LOOKAHEAD_LEASE_SECOND": 30}}, "LOOKAHEAD_LEASE_SECOND"),
    ],
)
def test_what_cannot_work_is_refused(
    refused: Callable[[Mapping[str, Any]], str], values: Mapping[str, Any], message: str
) -> None:
    assert message in refused(values)
