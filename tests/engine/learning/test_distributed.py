"""Two processes that train together over gloo come to one network, that of one process alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from tests.engine.formats.files import reloaded
from tests.engine.learning.rank import TOGETHER
from tests.engine.learning.test_training import Case
from worker.engine.learning.distributed import World

ROOT = Path(__file__).parents[3]


def start(folder: Path, rank: int, port: int) -> subprocess.Popen[bytes]:
    """A process as torchrun starts it."""
    around = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    folder.mkdir()
    command = [sys.executable, "-m", "tests.engine.learning.rank", str(folder)]
    return subprocess.Popen(command, env={**os.environ, **around}, cwd=ROOT)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_two_processes_train_the_network_that_one_would(tmp_path):
    port = free_port()
    processes = [start(tmp_path / str(rank), rank, port) for rank in (0, 1)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    files = [tmp_path / str(rank) / f"rank-{rank}.pt" for rank in (0, 1)]
    one, other = (dict(reloaded(path).named_parameters()) for path in files)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name])
    (tmp_path / "alone").mkdir()
    alone = Case(tmp_path / "alone")
    record, content, _ = alone.run(**TOGETHER)
    (tmp_path / "alone.pt").write_bytes(content)
    expected, found = (dict(reloaded(path).named_parameters()) for path in (tmp_path / "alone.pt", files[0]))
    before = dict(reloaded(alone.file).named_parameters())
    assert record.improved
    for name, tensor in expected.items():
        moved = float((tensor - before[name]).detach().abs().max())
        assert moved > 0
        difference = (found[name] - tensor).detach().numpy()
        np.testing.assert_allclose(difference, 0.0, atol=1e-4 * moved)


def test_alone_there_is_one():
    world = World.present()
    assert (world.rank, world.size, world.first) == (0, 1, True)
    assert world.agreed(lambda: 3) == 3
