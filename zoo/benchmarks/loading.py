"""How fast images are read, and how much memory that takes: the zoo's store against torchvision's folder of JPEGs, on one core.

The loaders take turns, one pass each, and the fastest pass counts (the median stands beside it): other work on the machine only
ever makes a pass slower. torchvision is measured between the turns, by the same rule.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from zoo.batch import to_float
from zoo.benchmarks.measure import BenchmarkResult, give_back_memory, process_memory, take_turns, threads
from zoo.data.faces.dataset import Faces, export_celeba
from zoo.data.loader import BatchLoader
from zoo.data.store import Store

WORKERS = 2  # of torchvision's DataLoader; the zoo reads without any
GOALS = {"mmap_uint8": 500_000, "mmap_float": 150_000}  # images/s of 3×64×64 on one core
GOAL_RATIO = 30  # times torchvision
GOAL_PRIVATE_MEMORY = 0.1  # of the store's size: no copy of it is made


def measure_loaders(
    store: Store, batch_size: int, seconds: float, jpegs: int, print_progress: Callable[[str], None]
) -> list[BenchmarkResult]:
    """Images/s of each way to read, and the ratio to torchvision; about `seconds` each and the drawing of `jpegs` faces."""
    with threads(1):
        gpu = torch.cuda.is_available()
        takes: dict[str, Callable[[], None]] = {}
        for device, suffix in (("cpu", ""), ("cuda", "_gpu"))[: 1 + gpu]:
            for storage in ("mmap", "device"):
                loader = BatchLoader(store, "train", batch_size, storage=storage, device=device)
                buffer = torch.empty(batch_size, *store.images.shape[1:], device=device)
                takes[f"{storage}_uint8{suffix}"] = partial(one_pass, loader, None, itertools.count())
                takes[f"{storage}_float{suffix}"] = partial(one_pass, loader, buffer, itertools.count())
        images = len(loader) * batch_size

        def rates_of() -> dict[str, list[float]]:
            times = take_turns(takes, torch.device("cuda" if gpu else "cpu"), len(takes) * seconds / 2, warm_up=1, least=1)
            return {name: [1000 * images / milliseconds for milliseconds in own] for name, own in times.items()}

        print_progress("loader: reading from the store")
        rates = rates_of()
        print_progress(f"loader: drawing {jpegs} faces as JPEGs for torchvision")
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
            export_celeba(Faces(train=jpegs, val=1, test=1), Path(folder))
            print_progress("loader: reading with torchvision")
            of_torchvision = torchvision_rates(Path(folder), store.image_size, batch_size, 2 * seconds)
        print_progress("loader: reading from the store again")
        again = rates_of()
        rates = {name: own + again[name] for name, own in rates.items()} | {"torchvision": of_torchvision}

    results = []
    for name, found in rates.items():
        storage, _, kind = name.partition("_")
        what = {"mmap": "memory-mapped", "device": "resident"}.get(storage, f"torchvision, {WORKERS} workers")
        what += f", {kind.replace('_gpu', ' on the GPU')}" if kind else ""
        figure = BenchmarkResult(
            f"{name}_images_per_second", what, max(found), "images/s", GOALS.get(name), median=statistics.median(found)
        )
        results.append(figure)
    fastest, median = (pick(rates["mmap_float"]) / pick(of_torchvision) for pick in (max, statistics.median))
    what = "memory-mapped / torchvision"
    return [*results, BenchmarkResult("mmap_float_over_torchvision", what, fastest, "×", GOAL_RATIO, median=median)]


def one_pass(loader: BatchLoader, buffer: Tensor | None, epochs: Iterator[int]) -> None:
    """Reads the next epoch, as uint8, or with a buffer as mirrored floats: what the data module does."""
    loader.set_epoch(next(epochs))
    for batch in loader:
        if buffer is not None:
            to_float(batch, loader.flips, buffer)


def torchvision_rates(root: Path, image_size: int, batch_size: int, seconds: float) -> list[float]:
    """Images/s in windows of one batch from each worker. Files are drawn with replacement, so few of them are enough."""
    steps = [transforms.CenterCrop(148), transforms.Resize(image_size), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    data = datasets.ImageFolder(root, transforms.Compose(steps))
    sampler = RandomSampler(data, replacement=True, num_samples=10**9)
    batches = iter(DataLoader(data, batch_size, sampler=sampler, num_workers=WORKERS))
    for _ in range(WORKERS):  # the start of the workers does not count
        next(batches)
    rates: list[float] = []
    began = mark = time.perf_counter()
    while not rates or mark - began < seconds:
        images = sum(len(next(batches)[0]) for _ in range(WORKERS))
        before, mark = mark, time.perf_counter()
        rates.append(images / (mark - before))
    return rates


def measure_memory(path: Path, batch_size: int) -> list[BenchmarkResult]:
    """Private memory that opening a store and reading an epoch of it adds to this process; empty where the system does not tell."""
    give_back_memory()
    fields = ("Anonymous", "Private_Dirty")
    before = [process_memory(field) for field in fields]
    store = Store.open(path)
    one_pass(BatchLoader(store, "train", batch_size), None, itertools.count())
    added = [(process_memory(field) or 0) - (start or 0) for field, start in zip(fields, before, strict=True)]
    if None in before:
        return []
    size = store.images.nbytes
    private = max(0, added[0])
    return [
        BenchmarkResult("store_mib", "the store's images", size / 2**20, "MiB"),
        BenchmarkResult("ring_mib", "the loader's buffers", 2 * batch_size * store.images[0].nbytes / 2**20, "MiB"),
        BenchmarkResult("private_mib", "private memory added by an epoch (anonymous)", private / 2**20, "MiB"),
        BenchmarkResult("private_dirty_mib", "private memory added by an epoch (dirty)", max(0, added[1]) / 2**20, "MiB"),
        BenchmarkResult(
            "private_over_store", "private memory / store", 100 * private / size, "%", 100 * GOAL_PRIVATE_MEMORY, at_least=False
        ),
    ]
