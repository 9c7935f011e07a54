"""The scripts of the images, which are no packages, as modules."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def script(name: str) -> ModuleType:
    spec = spec_from_file_location(f"image_{name}", DOCKER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
