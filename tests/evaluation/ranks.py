"""Measuring on two forked gloo ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_both_of_two_ranks(folder: Path, measure: Callable[[], Any]) -> list[Any]:
    """What `measure()` returns in each of two forked processes that meet in `folder`."""
    context = mp.get_context("fork")
    queue = context.Queue()

    def work(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
        with torch.no_grad():
            queue.put(measure())
        dist.destroy_process_group()

    processes = [context.Process(target=work, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(120)
    return found
