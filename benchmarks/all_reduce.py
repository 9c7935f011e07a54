"""Sums over the processes of one job: our shared memory against gloo over loopback, in turn in one run.

What a job's processes may use in the sandbox, where there are no sockets, beside what torch would take. MB/s
are the bytes of the tensor over the median time until all processes have the sum.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import distributed

from api_schemas.jobs import WorldOrder
from benchmarks.output import markdown, parser, save, say
from client.launcher import free_port
from worker import exchange as made_by_worker
from worker.engine.learning.exchange import Exchange
from worker.engine.learning.process_group import SharedMemoryGroup

SIZES = (4_000, 100_000, 1_000_000, 25_000_000, 100_000_000)
_WAIT_SECONDS = 120.0
_SECONDS_PER_SIZE = 2.0
Transport = Callable[[torch.Tensor], object]


@final
@dataclass(frozen=True)
class Sum:
    """Median seconds of a sum of so many bytes by one transport."""

    transport: str
    size: int
    seconds: float

    @property
    def megabytes_per_second(self) -> float:
        """Of the tensor, whatever travels for it."""
        return self.size / self.seconds / 1e6


def measured(processes: int, slot_bytes: int, sizes: Sequence[int] = SIZES) -> list[Sum]:
    """What the first of so many processes measures."""
    shared = made_by_worker.Exchange(processes, slot_bytes)
    port, ranks = free_port("127.0.0.1", 0), list[subprocess.Popen[bytes]]()
    try:
        for rank in range(processes):
            given = json.dumps(
                {"order": shared.order(rank, _WAIT_SECONDS).model_dump(), "sizes": list(sizes)}
            )
            ranks.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.all_reduce", "--rank", given],
                    env=_environment(rank, processes, port),
                    pass_fds=shared.given_to(rank),
                    stdout=subprocess.PIPE,
                )
            )
            shared.gone_to(rank)
        said = [process.communicate()[0] for process in ranks]
        if any(process.returncode for process in ranks):
            raise RuntimeError("a process failed")
        return [Sum(**one) for one in json.loads(said[0])]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
        shared.close()


def _environment(rank: int, processes: int, port: int) -> Mapping[str, str]:
    around = {"RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    quiet = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return {**os.environ, **around, **quiet, "MASTER_PORT": str(port)}


def as_rank(order: WorldOrder, sizes: Sequence[int]) -> list[Sum]:
    """One process: both transports, turn about, for every size."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    group = SharedMemoryGroup(Exchange(order))
    transports: dict[str, Transport] = {
        "shared memory": lambda tensor: group.allreduce([tensor]),
        "gloo": distributed.all_reduce,
    }
    found = [one for size in sizes for one in _in_turn(transports, size)]
    distributed.destroy_process_group()
    return found


def _in_turn(transports: Mapping[str, Transport], size: int) -> list[Sum]:
    tensor = torch.zeros(size // 4)
    rounds = _rounds(transports, tensor)
    seconds: dict[str, list[float]] = {name: [] for name in transports}
    for _ in range(rounds):
        for name, reduce in transports.items():
            seconds[name].append(_timed(reduce, tensor))
    return [Sum(name, size, statistics.median(values)) for name, values in seconds.items()]


def _rounds(transports: Mapping[str, Transport], tensor: torch.Tensor) -> int:
    """As many as fit into the time, by what the slowest process makes of a first one."""
    first = sum(_timed(reduce, tensor) for reduce in transports.values())
    slowest = torch.tensor([first])
    distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
    return min(max(int(_SECONDS_PER_SIZE / float(slowest)), 5), 500)


def _timed(reduce: Transport, tensor: torch.Tensor) -> float:
    distributed.barrier()
    begun = time.perf_counter()
    reduce(tensor)
    return time.perf_counter() - begun


def main() -> int:
    """Print a table of both transports by size. Exits 1 when a process failed."""
    options = parser(__doc__)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--slot-bytes", type=int, default=made_by_worker.SLOT_BYTES, help="at once")
    options.add_argument("--rank", help="be one of the processes")
    given = options.parse_args()
    if given.rank is not None:
        asked = json.loads(given.rank)
        found = as_rank(WorldOrder.model_validate(asked["order"]), asked["sizes"])
        sys.stdout.write(json.dumps([vars(one) for one in found]))
        return 0
    sums = measured(given.processes, given.slot_bytes)
    say(f"{given.processes} processes, a thread each, slots of {given.slot_bytes:,} bytes\n")
    say(
        markdown(["bytes", "shared memory, MB/s", "gloo, MB/s", "shared memory, ms", "gloo, ms"], _rows(sums))
    )
    save(given.json, {"processes": given.processes, "sums": [vars(one) for one in sums]})
    return 0


def _rows(sums: Sequence[Sum]) -> list[list[str]]:
    rows = []
    for size in dict.fromkeys(one.size for one in sums):
        ours, gloo = (next(s for s in sums if (s.transport, s.size) == (name, size)) for name in _NAMES)
        speeds = [f"{one.megabytes_per_second:,.0f}" for one in (ours, gloo)]
        rows.append([f"{size:,}", *speeds, *(f"{one.seconds * 1e3:.2f}" for one in (ours, gloo))])
    return rows


_NAMES = ("shared memory", "gloo")


if __name__ == "__main__":
    sys.exit(main())
