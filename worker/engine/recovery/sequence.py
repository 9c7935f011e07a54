"""Several recoveries in turn."""

from collections.abc import Sequence
from typing import ClassVar, final

from pydantic import Field, field_validator

from api_schemas.recipe import PartSpec
from worker.engine import registry
from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.healing import heal_by


@final
class SequenceOfRecoveries(Recovery):
    """Several recoveries, each on what the one before left: for example reconstruction, then fine-tuning.
    Where channels leave the file, those that work in closed form come before that, the others after."""

    name: ClassVar[str] = "sequence"

    parts: list[PartSpec] = Field(min_length=1, max_length=20)
    """The recoveries in order, each with its parameters beside its name: [{"name": "reconstruction"},
    {"name": "fine_tune", "steps": 2000}]."""

    @field_validator("parts")
    @classmethod
    def _known(cls, parts: list[PartSpec]) -> list[PartSpec]:
        for spec in parts:
            registry.resolve(Recovery, spec)
        return parts

    def course(self, data: Dataset | None) -> Sequence[Recovery]:
        resolved = [registry.resolve(Recovery, spec) for spec in self.parts]
        return tuple(member for part in resolved for member in part.course(data))

    def heal(self, pruned: Pruned, context: Context) -> None:
        for part in self.course(pruned.data):
            heal_by(part, pruned, context)
