"""What heals a pruned network."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import onnx_ir as ir

from api_schemas.jobs import InputSpecs
from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.registry import Part
from worker.engine.types import Mask


@final
@dataclass(frozen=True)
class Pruned:
    """A network that has just been pruned, and what there is to heal it with.

    `network` is healed in place, through `write`; `graph` is its analysis as it is now. `original` is the
    upload, loaded afresh: a teacher that never changes. `masks` are in the layout of the stored tensors, by
    handle of `network`'s structure, and False where a weight must stay zero. Rows in `data` may be learnt
    from; rows in `validation` only say when to stop and which of two networks is better.
    """

    network: Network
    graph: Graph
    original: Network
    masks: Mapping[ir.Value, Mask] = field(default_factory=dict)
    data: Dataset | None = None
    validation: Dataset | None = None
    inputs: InputSpecs = field(default_factory=dict)


class Recovery(Part, abc.ABC):
    """Abstract axis `recovery`."""

    axis: ClassVar[str] = "recovery"

    #: True for parts that heal the full-size network whose pruned channels are zero, before these leave the
    #: file (closed forms); False for those that heal what is left of it (training).
    before_shrinking: ClassVar[bool] = False
    #: True for parts that note by themselves in `context.healed` what they gained.
    notes_gain: ClassVar[bool] = False

    def course(self, data: Dataset | None) -> Sequence["Recovery"]:
        """The parts that heal in turn, given those rows to learn from: the part itself, or, of a composition,
        its members. The pipeline heals by each; empty means that nothing is to be done."""
        return (self,)

    @abc.abstractmethod
    def heal(self, pruned: Pruned, context: Context) -> None:
        """Change what is kept so that the network does better. Masks hold afterwards."""
