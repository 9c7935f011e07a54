"""Dockerfiles, compose files and their documentation, held against each other and against the code."""

import re
import tomllib
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from service.settings import ServiceSettings
from tests.docker.loading import DOCKER, ROOT
from worker.settings import WorkerSettings

DOCKERFILES = ["api.Dockerfile", "worker.Dockerfile"]
SETTINGS = {
    f"LOOKAHEAD_{name.upper()}" for name in {*ServiceSettings.model_fields, *WorkerSettings.model_fields}
}


def _compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())
    return found


def _text(name: str) -> str:
    return (DOCKER / name).read_text()


SERVICES: dict[str, Any] = _compose()["services"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_exists_and_gets_past_the_ignore_file(name: str) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]
    allowed = [line[1:] for line in rules if line[0] == "!"]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", _text(name), re.MULTILINE)
    sources = [source for line in copies for source in line.split()]
    assert sources
    assert rules[0] == "*"
    for source in sources:
        assert any(fnmatch(source, pattern) for pattern in allowed), source
        assert (ROOT / source).exists() or source == "README.md"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_run_without_root_and_are_built_in_stages(name: str) -> None:
    stages = re.split(r"^FROM ", _text(name), flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    assert all(stage.startswith("python:3.11-slim") for stage in stages)
    users = re.findall(r"^USER (\S+)", stages[-1], re.MULTILINE)
    assert users == ["lookahead"]
    assert "HEALTHCHECK" in stages[-1]
    assert re.search(r'^ENTRYPOINT \["python", "-P", "-m", "\w+"\]$', stages[-1], re.MULTILINE)


def test_the_api_image_gets_nothing_of_the_engine() -> None:
    text = _text("api.Dockerfile")
    assert "COPY worker" not in text
    assert '".[api]"' in text
    assert "torch" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def test_one_torch_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pin,) = (entry for entry in project["project"]["optional-dependencies"]["worker"] if "torch==" in entry)
    assert f"ARG TORCH_VERSION={pin.removeprefix('torch==')}\n" in _text("worker.Dockerfile")


@pytest.mark.parametrize(
    "name", [*DOCKERFILES, "docker-compose.yml", "docker-compose.gpu.yml", ".env.example"]
)
def test_no_host_of_a_registry_or_mirror_is_named(name: str) -> None:
    addresses = re.findall(r"https?://([^/:\s\"']+)", _text(name))
    assert set(addresses) <= {"127.0.0.1", "object-store"}
    images = re.findall(r"(?:image: |^FROM )(\S+)", _text(name), re.MULTILINE)
    assert not [image for image in images if "." in image.partition("/")[0].partition(":")[0]]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "mem_limit" in service
    assert "privileged" not in service
    assert "/tmp" in service["tmpfs"] or name == "redis"
    assert re.search(r":[\w${}:.-]+$", service["image"])
    assert not service["image"].endswith("latest")
    if name != "prepare":
        assert "stop_grace_period" in service
        assert "healthcheck" in service or "build" in service


def test_only_the_api_is_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert [name for name, service in SERVICES.items() if "outside" in service["networks"]] == ["api"]
    assert _compose()["networks"]["inside"]["internal"] is True


def test_who_waits_for_whom() -> None:
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"] == {
            "prepare": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert set(SERVICES["prepare"]["depends_on"]) == {"postgres", "object-store"}


def test_redis_forgets_but_never_evicts() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--save") + 1] == ""


def test_settings_are_settings() -> None:
    for name in ("prepare", "api", "worker"):
        given = {key for key in SERVICES[name]["environment"] if key.startswith("LOOKAHEAD_")}
        assert given <= SETTINGS, given - SETTINGS
    for name in DOCKERFILES:
        assert set(re.findall(r"(LOOKAHEAD_\w+)=", _text(name))) <= SETTINGS


def test_the_example_file_names_what_the_compose_files_ask_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", _text("docker-compose.yml") + _text("docker-compose.gpu.yml")))
    named = set(re.findall(r"^#?([A-Z_]+)=", _text(".env.example"), re.MULTILINE))
    required = set(re.findall(r"\$\{(\w+):\?", _text("docker-compose.yml")))
    assert named <= asked
    assert required <= named


def test_the_gpu_file_changes_the_worker_alone() -> None:
    overlay = _compose("docker-compose.gpu.yml")["services"]
    assert set(overlay) == {"worker"}
    (device,) = overlay["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    cells = re.findall(r"^\| (`LOOKAHEAD_[^|]+)\|", text, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"LOOKAHEAD_\w+", cell)}
    assert documented == SETTINGS
