"""torch.distributed and DDP over our own backend, in processes without a socket between them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from worker.exchange import Exchange

ROOT = Path(__file__).parents[3]
CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def acted(act: str, size: int = 2) -> list[Any]:
    """What each of so many processes saw."""
    exchange, processes = Exchange(size), list[subprocess.Popen[str]]()
    try:
        for rank in range(size):
            order = exchange.order(rank, 60.0).model_dump_json()
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.engine.learning.group_rank", act, order],
                    pass_fds=exchange.given_to(rank),
                    stdout=subprocess.PIPE,
                    cwd=ROOT,
                    text=True,
                )
            )
            exchange.gone_to(rank)
        said = [process.communicate(timeout=120)[0] for process in processes]
        return [json.loads(text) if text else None for text in said]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        exchange.close()


def test_torchs_collectives_and_what_is_agreed() -> None:
    seen = acted("collectives", 3)
    for rank, one in enumerate(seen):
        assert one.pop("world") == [rank, 3, rank == 0, "lookahead"]
        assert one == {
            "SUM": [6.0, 12.0],
            "AVG": [2.0, 4.0],
            "PRODUCT": [6.0, 60.0],
            "MIN": [1.0, 3.0],
            "MAX": [3.0, 5.0],
            "gathered": [0, 10, 20],
            "refused": "lookahead reduces by sum, mean, product, minimum and maximum",
            "agreed": {"rank": 0, "none": None, "nan": [float("inf")]},
            "nothing": "",
        }


@pytest.mark.parametrize("act", ["data_parallel", pytest.param("data_parallel_cuda", marks=CUDA)])
def test_ddp_gives_the_gradients_of_all_rows(act: str) -> None:
    """On a GPU both processes share the first there is, which nothing but our own transport would do."""
    one, other = acted(act)
    assert one == other and one == pytest.approx([0.0, 0.0], abs=1e-5)


def test_a_process_lost_in_the_backward_pass_keeps_its_name() -> None:
    left, gone = acted("deserted")
    assert gone is None and left[0] == "PeerLostError"
