"""Parts register themselves by being defined; a recipe's names are resolved to frozen parts here.

A part is a final subclass of one axis' abstract class, a frozen pydantic model whose fields are its
parameters. Its docstring and schema become `GET /v1/methods`, the command line's help and the report.
"""

import abc
import importlib
import inspect
import pkgutil
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from api_schemas.catalogue import MethodInfo, Requirements
from api_schemas.errors import plain_message
from api_schemas.recipe import PartSpec
from worker.engine.errors import InvalidRecipeError

_PARTS: dict[tuple[str, str], type["Part"]] = {}


class Part(BaseModel, abc.ABC):
    """One choice on one axis. Abstract per axis (sets `axis`), final per method (sets `name`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    axis: ClassVar[str] = ""
    name: ClassVar[str] = ""
    #: Paper and equation, where there is one.
    source: ClassVar[str | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not cls.name:
            return
        if (cls.axis, cls.name) in _PARTS:
            raise TypeError(f"two parts named {cls.axis} {cls.name!r}")
        _PARTS[cls.axis, cls.name] = cls

    @classmethod
    def requires(cls) -> Requirements:
        """What the part cannot do without, whatever its parameters."""
        return Requirements()


PartType = TypeVar("PartType", bound=Part)


def load_folder(package: str, path: list[str]) -> None:
    """Import every module of a folder, so that its parts register. Import errors pass through."""
    for module in sorted(pkgutil.iter_modules(path), key=lambda found: found.name):
        importlib.import_module(f"{package}.{module.name}")


def parts(axis: str | None = None) -> list[type[Part]]:
    """Registered parts, of one axis or all, in a fixed order."""
    return [part for key, part in sorted(_PARTS.items()) if axis in (None, key[0])]


def resolve(base: type[PartType], spec: PartSpec) -> PartType:
    """The part that `spec` names on the axis of `base`; InvalidRecipeError where there is none."""
    found = _PARTS.get((base.axis, spec.name))
    if found is None or not issubclass(found, base):
        known = ", ".join(part.name for part in parts(base.axis))
        raise InvalidRecipeError(f"there is no {base.axis} {spec.name!r}; known: {known}")
    try:
        return found.model_validate(spec.params)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        which = f", parameter {where!r}" if where else ""
        raise InvalidRecipeError(f"{base.axis} {spec.name!r}{which}: {plain_message(first)}") from error


def describe(part: type[Part]) -> MethodInfo:
    """A part as the catalogue shows it."""
    schema = part.model_json_schema()
    schema.pop("description", None)
    return MethodInfo(
        axis=part.axis,
        name=part.name,
        description=inspect.getdoc(part) or "",
        source=part.source,
        parameters=schema,
        requires=part.requires(),
    )
