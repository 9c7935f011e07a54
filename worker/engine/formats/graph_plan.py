"""A graph made ready to run: calls in order, each knowing where its operands lie and what dies with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

from worker.engine.errors import EngineError, ModelNotRunnableError
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.sizes import Sizes

#: Where values lie while a graph runs; place 0 is always empty and stands for an input left out.
Frame = list[Any]
#: Values that somebody watches, by place, as they are made.
Watch = dict[int, Any]


@final
@dataclass(frozen=True, eq=False)
class Step:
    """One call. `dead` are the places that nothing reads after it."""

    function: Callable[..., Any]
    call: Call
    sizes: bool
    operands: tuple[int, ...]
    results: tuple[int, ...]
    dead: tuple[int, ...] = ()
    bodies: Mapping[str, "Plan"] = field(default_factory=dict)

    def run(self, frame: Frame, watch: Watch | None) -> None:
        """Call, put the results into their places, empty those that died."""
        operands = [frame[place] for place in self.operands]
        if not self.sizes:
            device = self.call.mode.device
            operands = [one.tensor(device) if type(one) is Sizes else one for one in operands]
        call = self.call
        if self.bodies:
            bound = {name: partial(body.call, frame, watch) for name, body in self.bodies.items()}
            call = replace(call, bodies=bound)
        try:
            made = self.function(call, *operands)
        except EngineError:
            raise
        except Exception as error:
            raise_if_memory(error)
            raise _failure(call, error) from error
        if type(made) is tuple:
            for place, value in zip(self.results, made, strict=False):
                frame[place] = value
        else:
            frame[self.results[0]] = made
        if watch is not None:
            for place in self.results:
                if place in watch:
                    watch[place] = frame[place]
        for place in self.dead:
            frame[place] = None


def _failure(call: Call, error: Exception) -> ModelNotRunnableError:
    """What the user is told: which node it was and what torch said first."""
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return ModelNotRunnableError(f"{call.operator} {call.name[:80]!r} fails in torch: {reason[:300]}")


@final
@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of a graph or of a body, with the places of its inputs and outputs."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]

    def call(self, frame: Frame, watch: Watch | None, *inputs: Any) -> tuple[Any, ...]:
        """Outputs for the inputs. What surrounds a body is read from the frame that it shares."""
        for place, value in zip(self.inputs, inputs, strict=True):
            frame[place] = value
            if watch is not None and place in watch:
                watch[place] = value
        for step in self.steps:
            step.run(frame, watch)
        return tuple(frame[place] for place in self.outputs)

    def upto(self, places: frozenset[int]) -> "Plan":
        """The plan without outputs, and without the steps after the last that makes one of these places.
        Where a body makes one, all steps stay."""
        makers = {place: number for number, step in enumerate(self.steps) for place in step.results}
        bodies = {place for step in self.steps for body in step.bodies.values() for place in body.made()}
        last = (
            len(self.steps)
            if places & bodies
            else max((makers.get(one, -1) for one in places), default=-1) + 1
        )
        return replace(self, outputs=(), steps=self.steps[:last])

    def made(self) -> frozenset[int]:
        """Places that its steps fill, those of their bodies included."""
        inner = (body.made() for step in self.steps for body in step.bodies.values())
        return frozenset(place for step in self.steps for place in step.results).union(*inner)

    def reads(self) -> frozenset[int]:
        """Places that are read before anything here fills them: what is around a body."""
        filled, read = set(self.inputs), set()
        for step in self.steps:
            read |= step_reads(step) - filled
            filled |= set(step.results)
        return frozenset(read | (set(self.outputs) - filled)) - {0}


def step_reads(step: Step) -> set[int]:
    """Places that a step reads, those that its bodies read around them included."""
    return set(step.operands).union(*(body.reads() for body in step.bodies.values())) - {0}


def with_deaths(plan: Plan) -> Plan:
    """The plan with every place that it fills emptied after its last reader, but for outputs."""
    mine = set(plan.inputs).union(*(step.results for step in plan.steps)) - set(plan.outputs) - {0}
    steps: list[Step] = []
    for step in reversed(plan.steps):
        dead = (step_reads(step) | set(step.results)) & mine
        mine -= dead
        bodies = {name: with_deaths(body) for name, body in step.bodies.items()}
        steps.append(replace(step, dead=tuple(sorted(dead)), bodies=bodies))
    return replace(plan, steps=tuple(reversed(steps)))
