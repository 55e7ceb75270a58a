"""What every measurement shares: a figure with its target, the clock, memory of the process, and random images in a real store.

What is compared takes turns in one process, step by step, and the median of the ratios of neighbours counts.
"""

import ctypes
import gc
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo import hardware
from zoo.data.faces.dataset import ATTRIBUTE_NAMES
from zoo.data.source import Chunk, Listing, Source


class BenchmarkResult(NamedTuple):
    """One measured number."""

    name: str  # for JSON, with its unit
    what: str  # for people
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = True  # whether the goal is a lower or an upper bound
    median: float | None = None  # where `value` is that of the fastest pass

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def synchronize(device: torch.device) -> None:
    """Waits for the GPU, so that the clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds_of(take: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds of a call, its work on the GPU included."""
    synchronize(device)
    start = time.perf_counter()
    take()
    synchronize(device)
    return 1000 * (time.perf_counter() - start)


def take_turns(
    takes: Mapping[str, Callable[[], Any]], device: torch.device, seconds: float, warm_up: int, least: int = 5
) -> dict[str, list[float]]:
    """Milliseconds of each, in turns, for about `seconds` and at least so many turns; the first `warm_up` turns do not count."""
    times: dict[str, list[float]] = {name: [] for name in takes}
    began, turns = time.perf_counter(), 0
    while turns < warm_up + least or time.perf_counter() - began < seconds:
        turns += 1
        for name, take in takes.items():
            times[name].append(milliseconds_of(take, device))
    return {name: own[warm_up:] for name, own in times.items()}


def ratio(own: list[float], other: list[float]) -> float:
    """The median of the ratios of neighbours."""
    return statistics.median(a / b for a, b in zip(own, other, strict=True))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes with `count` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def give_back_memory() -> None:
    """Returns what Python and malloc hold without using it to the system, so that what comes next does not hide in it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def process_memory(field: str, table: str = "smaps_rollup") -> int | None:
    """Bytes of this process: a field of /proc/self/smaps_rollup (Anonymous, Private_Dirty) or status (VmRSS, VmHWM). None without /proc."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/self/{table}").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def peak_memory(take: Callable[[], Any], device: torch.device) -> int | None:
    """Most bytes that a call takes at once, above what is held before it; None where the system does not tell."""
    give_back_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before: int | None = torch.cuda.memory_allocated(device)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is held now
        except OSError:
            return None
        before = process_memory("VmRSS", "status")
    take()
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_memory("VmHWM", "status")
    return None if peak is None or before is None else max(0, peak - before)


class RandomImages(Source):
    """Noise images, nearly all of them to train on, that go through the real store builder. Their content does not matter to time."""

    name = "random"
    channels = 3
    attribute_names = ATTRIBUTE_NAMES

    def __init__(self, count: int, image_size: int = 64) -> None:
        self.count, self.image_size = count, image_size

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "count": self.count, "image_size": self.image_size}

    def scan(self) -> Listing:
        attributes = np.random.Generator(np.random.Philox(0)).integers(0, 2, (self.count, len(ATTRIBUTE_NAMES)), np.uint8)
        splits = np.zeros(self.count, np.uint8)
        return Listing([f"{i:06d}" for i in range(self.count)], splits, attributes)

    def read(self, start: int, stop: int) -> Chunk:
        shape = (stop - start, self.channels, self.image_size, self.image_size)
        return Chunk(np.random.Generator(np.random.Philox(start)).integers(0, 256, shape, np.uint8))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": hardware.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": round(os.getloadavg()[0], 2),  # before the benchmark: far above 0 means other work disturbs it
    }
