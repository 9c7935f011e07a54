"""A block in which torch computes the same bits for the same seed, as far as its operators can."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Seed torch and have it choose deterministic operators, on that many threads; later all is as before.

    Operators without a deterministic form run all the same: a job must not fail for it.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warned_before = torch.is_deterministic_algorithms_warn_only_enabled()
    threads_before = torch.get_num_threads()
    memory: Any = torch.utils.deterministic
    filled_before = memory.fill_uninitialized_memory
    # cuBLAS reads this once, when it is first used, and is not deterministic without.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_num_threads(max(1, threads))
        # Nobody here reads memory before writing it; filling it all the same costs a pass over every tensor.
        memory.fill_uninitialized_memory = False
        # Moments of weights that stand still fade to subnormal numbers, which processors take many times as
        # long over; they count as zero.
        torch.set_flush_denormal(True)
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
                yield
        finally:
            torch.set_flush_denormal(False)
            torch.use_deterministic_algorithms(before, warn_only=warned_before)
            torch.set_num_threads(threads_before)
            memory.fill_uninitialized_memory = filled_before
