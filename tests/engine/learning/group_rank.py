"""One of several processes that talk through shared memory, started by the tests: what it saw, as JSON."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import distributed
from torch.distributed import ReduceOp
from torch.nn.functional import mse_loss

from api_schemas.jobs import WorldOrder
from worker.engine.learning.distributed import World, joined_through


def collectives(rank: int) -> object:
    """Through torch's own functions."""
    seen: dict[str, object] = {}
    for name in ("SUM", "AVG", "PRODUCT", "MIN", "MAX"):
        tensor = torch.tensor([rank + 1.0, 5.0 - rank])
        distributed.all_reduce(tensor, getattr(ReduceOp, name))
        seen[name] = tensor.tolist()
    gathered = [torch.zeros(1, dtype=torch.int64) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, torch.tensor([10 * rank]))
    seen["gathered"] = [int(one) for one in gathered]
    distributed.barrier()
    try:
        distributed.all_reduce(torch.ones(1, dtype=torch.int64), ReduceOp.BXOR)
    except NotImplementedError as error:
        seen["refused"] = str(error)
    world = World.present()
    seen["world"] = [world.rank, world.size, world.first, distributed.get_backend()]
    seen["agreed"] = world.agreed(lambda: {"rank": rank, "none": None, "nan": [float("inf")]})
    seen["nothing"] = world.agreed_bytes(lambda: b"").decode()
    return seen


def data_parallel(rank: int, device: str = "cpu") -> object:
    """Gradients by DDP over parts of the rows, one parameter unused, two calls for one step."""
    torch.manual_seed(rank)
    module = Branching().to(device)
    wrapped = World.present().wrapped(module)
    generator = torch.Generator().manual_seed(7)
    rows, wanted = (torch.randn(8, width, generator=generator).to(device) for width in (4, 2))
    own = slice(4 * rank, 4 * rank + 4)
    outputs = torch.cat([wrapped(half) for half in rows[own].split(2)])
    mse_loss(outputs, wanted[own]).backward()
    torch.manual_seed(0)
    alone = Branching().to(device)
    mse_loss(alone(rows), wanted).backward()
    pairs = zip(module.parameters(), alone.parameters(), strict=True)
    return [
        float((mine.grad - theirs.grad).abs().max())
        for mine, theirs in pairs
        if mine.grad is not None and theirs.grad is not None
    ]


class Branching(torch.nn.Module):
    """A layer that counts and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.used(rows)


def deserted(rank: int) -> object:
    """The other process goes while this one is in its backward pass."""
    wrapped = World.present().wrapped(torch.nn.Linear(4, 2))
    loss = wrapped(torch.ones(1, 4)).sum()
    if rank == 1:
        os._exit(0)
    loss.backward()
    return "not reached"


ACTS: dict[str, Callable[[int], object]] = {
    "collectives": collectives,
    "data_parallel": data_parallel,
    "data_parallel_cuda": partial(data_parallel, device="cuda"),
    "deserted": deserted,
}


def main(act: str, order: WorldOrder) -> None:
    """Join, act, tell."""
    torch.set_num_threads(1)
    try:
        with joined_through(order):
            found = ACTS[act](order.rank)
    except Exception as error:
        found = [type(error).__name__, type(error.__cause__).__name__]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], WorldOrder.model_validate_json(sys.argv[2]))
