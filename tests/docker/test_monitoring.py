"""Alerts, board and what the chart scales by name metrics and labels that the API really exposes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from service.metrics import Metrics
from store import StoreSettings, open_store
from tests.docker.loading import DOCKER

_MONITORING = DOCKER / "monitoring"
_FOREIGN = {"up": {"job", "instance"}}


def _expressions() -> Iterator[str]:
    (group,) = yaml.safe_load((_MONITORING / "alerts.yml").read_text())["groups"]
    yield from (rule["expr"] for rule in group["rules"])
    board = json.loads((_MONITORING / "grafana.json").read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    template = (DOCKER / "helm" / "lookahead" / "templates" / "workers.yaml").read_text()
    (scaling,) = re.findall(r'printf "(sum.+?[^\\])" \$', template)
    yield scaling.replace("%s,", "").replace('\\"', '"')


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Labels by sample, after each counter has counted something."""
    store = open_store(StoreSettings(data_dir=tmp_path_factory.mktemp("metrics")))
    metrics = Metrics()
    metrics.watch_store(store)
    metrics.requests.labels("/livez", "GET", "200").inc()
    metrics.seconds.labels("/livez").observe(1)
    metrics.reclaims.labels("requeued").inc()
    metrics.webhooks.labels("delivered").inc()
    text = generate_latest(metrics.registry).decode()
    store.close()
    found: dict[str, set[str]] = dict(_FOREIGN)
    for name, labels in re.findall(r"^(\w+)(?:\{([^}]*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


@pytest.mark.parametrize("expression", list(_expressions()))
def test_expressions_name_what_is_exposed(exposed: dict[str, set[str]], expression: str) -> None:
    names = re.findall(r"\b(lookahead_\w+|up)\b(?:\{([^}]*)\})?", expression)
    assert names
    for name, matchers in names:
        assert name in exposed
        assert set(re.findall(r"(\w+)=~?", matchers)) <= exposed[name]
    labels = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    assert labels <= set().union(*(exposed[name] for name, _ in names))


def test_every_metric_of_ours_is_watched_somewhere(exposed: dict[str, set[str]]) -> None:
    watched = set(re.findall(r"lookahead_\w+", " ".join(_expressions())))
    silent = {"lookahead_http_request_seconds_count", "lookahead_http_request_seconds_sum"}
    ours = {name for name in exposed if name.startswith("lookahead") and not name.endswith("_created")}
    assert ours - silent == watched


def test_the_scraper_reads_the_api_and_these_rules() -> None:
    config = yaml.safe_load((_MONITORING / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert (scrape["job_name"], scrape["metrics_path"]) == ("lookahead", "/metrics")
    assert all(Path(_MONITORING / name).is_file() for name in config["rule_files"])
