"""The Helm chart as it is written, held against compose, the settings and itself. No Helm is needed."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import reduce
from typing import Any

import jsonschema
import pytest
import yaml

from tests.docker.loading import DOCKER, ROOT
from tests.docker.test_files import SERVICES, SETTINGS

CHART = DOCKER / "helm" / "lookahead"
TEMPLATES = {path.name: path.read_text() for path in (CHART / "templates").iterdir()}
TEXT = "\n".join(TEMPLATES.values())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = yaml.safe_load((CHART / "values.schema.json").read_text())
CI = sorted((CHART / "ci").glob("*-values.yaml"))
#: What the chart sets itself, what the image has set, and what holds a password.
OWN = {f"LOOKAHEAD_{name}" for name in ("HOST", "PORT", "DATA_DIR", "SCRATCH_DIR", "WORKER_NAME")} | {
    "LOOKAHEAD_RATE_LIMIT_URL"
}


#: Compose hands it on when it is set; here it is one of `api.settings`.
HANDED_ON = {"LOOKAHEAD_RATE_LIMIT_REQUESTS"}
#: Maps whose keys are Kubernetes', the operator's, or names of pools.
FOREIGN = {"resources", "annotations", "labels", "podSecurityContext", "workers"}


def laid_over(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """What Helm makes of a values file on top of another: maps are merged, the rest is replaced."""
    merged = dict(deepcopy(values))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = laid_over(merged[key], value) if both else value
    return merged


def _refusals(over: Mapping[str, Any]) -> list[str]:
    errors = jsonschema.Draft7Validator(SCHEMA).iter_errors(laid_over(VALUES, over))
    return [error.json_path for error in errors]


def _follow(values: Mapping[str, Any], path: str) -> Any:
    return reduce(lambda found, key: found[key], path.strip(".").split("."), values)


def _compose_environment(service: str) -> set[str]:
    return set(SERVICES[service]["environment"])


def _named() -> set[str]:
    return set(re.findall(r"- name: ([A-Z][A-Z_]+)$", TEXT, re.MULTILINE))


def test_the_chart_is_one_of_helm_3_without_sub_charts() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["apiVersion"], chart["type"], chart["name"]) == ("v2", "application", "lookahead")
    assert "dependencies" not in chart
    (released,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["appVersion"] == released
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", CI, ids=lambda path: path.stem)
def test_value_files_fit_the_schema(path: Any) -> None:
    assert _refusals({}) == []
    assert _refusals(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("over", "where"),
    [
        ({"worker": {}}, "$"),
        ({"settings": {"LOOKAHEAD_LEASE_SECOND": 30}}, "$.settings"),
        ({"settings": {"LOOKAHEAD_DATABASE_URL": "postgresql://u:p@h/d"}}, "$.settings"),
        ({"stores": {"blobs": {"url": "file:///data"}}}, "$.stores.blobs.url"),
        ({"workers": {"cpu": {"jobKinds": ["train"]}}}, "$.workers.cpu.jobKinds[0]"),
        ({"workers": {"cpu": {"sandbox": "maybe"}}}, "$.workers.cpu.sandbox"),
        ({"workers": {"cpu": {"terminationGracePeriodSeconds": 30}}},
         "$.workers.cpu.terminationGracePeriodSeconds"),
        ({"workers": {"GPU": {}}}, "$.workers"),
        ({"images": {"api": {"digest": "sha256:12"}}}, "$.images.api.digest"),
    ],
)  # fmt: skip
def test_mistakes_in_values_are_refused(over: Mapping[str, Any], where: str) -> None:
    assert _refusals(over) == [where]


def _value_paths() -> Iterator[tuple[Mapping[str, Any], str]]:
    for path in re.findall(r"\.Values((?:\.\w+)+)", TEXT):
        yield VALUES, path
    for path in re.findall(r"\$pool((?:\.\w+)+)", TEXT):
        yield VALUES["workerDefaults"], path
    for path in re.findall(r"\.pod((?:\.\w+)+)", TEMPLATES["_pool.tpl"]):
        yield VALUES["workerDefaults"], path
    for path in re.findall(r"\.pod((?:\.\w+)+)", TEMPLATES["_pod.tpl"]):
        yield VALUES["api"], path
        yield VALUES["workerDefaults"], path


def test_templates_read_values_that_are_there() -> None:
    paths = list(_value_paths())
    assert len(paths) > 80
    for values, path in paths:
        _follow(values, path)


def test_no_value_is_there_for_nothing() -> None:
    def keys(values: Mapping[str, Any]) -> Iterator[str]:
        for key, value in values.items():
            yield key
            if isinstance(value, Mapping) and key not in FOREIGN:
                yield from keys(value)

    for key in keys(VALUES):
        assert re.search(rf"\b{key}\b", TEXT), key


def test_pools_have_what_the_defaults_have() -> None:
    for name, pool in VALUES["workers"].items():
        assert set(pool) <= set(VALUES["workerDefaults"]), name


def test_environment_is_that_of_compose() -> None:
    for service in ("prepare", "api", "worker"):
        assert _compose_environment(service) - HANDED_ON <= _named(), service
    ours = {name for name in _named() if name.startswith("LOOKAHEAD_")}
    assert ours <= SETTINGS


def test_every_other_setting_may_be_given_and_nothing_else() -> None:
    given = set(SCHEMA["definitions"]["settings"]["propertyNames"]["enum"])
    assert given == (SETTINGS - OWN - _named()) | {"LOOKAHEAD_THREADS"}


def test_images_commands_and_users_are_those_of_compose() -> None:
    for name, service in (("api", "api"), ("worker", "worker")):
        assert SERVICES[service]["image"].partition(":")[0] == VALUES["images"][name]["repository"]
    assert f"command: [{', '.join(SERVICES['prepare']['entrypoint'])}]" in TEMPLATES["prepare.yaml"]
    for name in ("api", "worker"):
        assert (
            f"--uid {VALUES['podSecurityContext']['runAsUser']} "
            in (DOCKER / f"{name}.Dockerfile").read_text()
        )
    health = re.findall(r"(/opt/\S+_health\.py)\]", TEMPLATES["workers.yaml"])
    assert set(health) == {"/opt/lookahead/share/worker_health.py"}
    assert f'CMD ["python", "{health[0]}"]' in (DOCKER / "worker.Dockerfile").read_text()


@pytest.mark.parametrize(("service", "values"), [("api", "api"), ("worker", "workerDefaults")])
def test_pods_get_as_long_to_stop_as_in_compose(service: str, values: str) -> None:
    grace = VALUES[values]["terminationGracePeriodSeconds"] - VALUES[values].get("preStopSeconds", 0)
    assert grace >= int(SERVICES[service]["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_alerts_and_board_have_one_source(name: str) -> None:
    link = CHART / "files" / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.samefile(DOCKER / "monitoring" / name)
    assert f'.Files.Get "files/{name}"' in TEMPLATES["monitoring.yaml"]


def test_no_secret_is_made_or_given() -> None:
    assert not re.search(r"kind: Secret\b", TEXT)
    for name in ("DATABASE_URL", "BROKER_URL", "API_KEYS", "WEBHOOK_SECRET"):
        assert re.search(rf"- name: LOOKAHEAD_{name}\n\s+valueFrom: {{ secretKeyRef", TEXT), name
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        assert re.search(rf"- name: AWS_{name}\n\s+valueFrom: {{ secretKeyRef", TEXT), name


def test_no_host_of_a_registry_is_named() -> None:
    assert "." not in VALUES["images"]["api"]["repository"] + VALUES["images"]["worker"]["repository"]
    assert set(re.findall(r"https?://([\w.-]+)", TEXT)) <= {"127.0.0.1"}
