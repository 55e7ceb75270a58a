"""How fast images are read, and how much memory that takes: the zoo's store against torchvision's CelebA, on one core.

The loaders take turns, one pass each, and the fastest pass counts (the median stands beside it): other work on the machine only
ever makes a pass slower. torchvision is measured between the turns, by the same rule.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from zoo.batch import to_float
from zoo.benchmarks.measure import BenchmarkResult, give_back_memory, process_memory, synchronize, threads
from zoo.data.faces.dataset import Faces, export_celeba
from zoo.data.loader import BatchLoader
from zoo.data.store import Store

BATCH_SIZE = 512
WORKERS = 2  # of torchvision's DataLoader; the zoo reads without any
GOALS = {"mmap_uint8": 500_000, "mmap_float": 150_000}  # images/s of 3×64×64 on one core
GOAL_RATIO = 30  # times torchvision
GOAL_PRIVATE_MEMORY = 0.1  # of the store's size: no copy of it is made


class TorchvisionCelebA(datasets.CelebA):
    """torchvision's reader, item by item, on faces that have not the checksums of the real CelebA."""

    def _check_integrity(self) -> bool:
        return True


def measure_loaders(store: Store, seconds: float, jpegs: int, print_progress: Callable[[str], None]) -> list[BenchmarkResult]:
    """Images/s of each way to read, and the ratio to torchvision; about `seconds` each and the drawing of `jpegs` faces."""
    with threads(1):
        turns: dict[str, tuple[BatchLoader, torch.Tensor | None]] = {}
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            for storage in ("mmap", "device"):
                loader = BatchLoader(store, "train", BATCH_SIZE, storage=storage, device=device)
                buffer = torch.empty(BATCH_SIZE, *store.images.shape[1:], device=device)
                suffix = "" if device == "cpu" else "_gpu"
                turns[f"{storage}_uint8{suffix}"] = loader, None
                turns[f"{storage}_float{suffix}"] = loader, buffer
        print_progress("loader: reading from the store")
        rates: dict[str, list[float]] = {name: [] for name in turns}
        take_turns(turns, rates, seconds / 2)
        print_progress(f"loader: drawing {jpegs} faces as JPEGs for torchvision")
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
            write_celeba(Path(folder), jpegs)
            print_progress("loader: reading with torchvision")
            rates["torchvision"] = torchvision_rates(Path(folder), store.image_size, 2 * seconds)
        print_progress("loader: reading from the store again")
        take_turns(turns, rates, seconds / 2)

    results = []
    for name, found in rates.items():
        storage, _, kind = name.partition("_")
        what = {"mmap": "memory-mapped", "device": "resident"}.get(storage, f"torchvision, {WORKERS} workers")
        what += f", {kind.replace('_gpu', ' on the GPU')}" if kind else ""
        unit = "images/s"
        results.append(
            BenchmarkResult(f"{name}_images_per_second", what, max(found), unit, GOALS.get(name), median=statistics.median(found))
        )
    ratios = [pick(rates["mmap_float"]) / pick(rates["torchvision"]) for pick in (max, statistics.median)]
    results.append(
        BenchmarkResult("mmap_float_over_torchvision", "memory-mapped / torchvision", ratios[0], "×", GOAL_RATIO, median=ratios[1])
    )
    return results


def take_turns(turns: dict[str, tuple[BatchLoader, torch.Tensor | None]], rates: dict[str, list[float]], seconds: float) -> None:
    """Appends images/s of passes over the epoch, one of each loader in turn, until `seconds` each are over; the first is a warm-up."""
    began, epoch = time.perf_counter(), 0
    while epoch < 2 or time.perf_counter() - began < seconds * len(turns):
        for name, (loader, buffer) in turns.items():
            loader.set_epoch(epoch)
            rate = one_pass(loader, buffer)
            if epoch:
                rates[name].append(rate)
        epoch += 1


def one_pass(loader: BatchLoader, buffer: torch.Tensor | None) -> float:
    """Images/s of one epoch, as uint8, or with a buffer as mirrored floats: what the data module does."""
    synchronize(loader.device)
    start, images = time.perf_counter(), 0
    for batch in loader:
        if buffer is not None:
            batch = to_float(batch, loader.flips, buffer)
        images += len(batch.image)
    synchronize(loader.device)
    return images / (time.perf_counter() - start)


def write_celeba(folder: Path, jpegs: int) -> None:
    """Writes faces where torchvision looks for CelebA, with the tables that the zoo's export lacks and torchvision insists on."""
    export_celeba(Faces(train=jpegs, val=1, test=1), folder / "celeba")
    names = [line.split()[0] for line in (folder / "celeba/list_eval_partition.txt").read_text().splitlines()]
    boxes, landmarks = [0, 0, 178, 218], [69, 111, 108, 111, 88, 136, 73, 152, 105, 152]
    header = f"{len(names)}\n" + " ".join(["column"] * 4) + "\n"
    for file, values, head in (
        ("identity_CelebA.txt", [1], ""),
        ("list_bbox_celeba.txt", boxes, header),
        ("list_landmarks_align_celeba.txt", landmarks, header),
    ):
        row = " ".join(map(str, values))
        (folder / "celeba" / file).write_text(head + "".join(f"{name} {row}\n" for name in names))


def torchvision_rates(root: Path, image_size: int, seconds: float) -> list[float]:
    """Images/s in windows of one batch from each worker. Files are drawn with replacement, so few of them are enough."""
    steps = [transforms.CenterCrop(148), transforms.Resize(image_size), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    data = TorchvisionCelebA(root, "train", target_type="attr", transform=transforms.Compose(steps))
    sampler = RandomSampler(data, replacement=True, num_samples=10**9)
    batches = iter(DataLoader(data, BATCH_SIZE, sampler=sampler, num_workers=WORKERS))
    for _ in range(WORKERS):  # the start of the workers does not count
        next(batches)
    rates: list[float] = []
    began = mark = time.perf_counter()
    while not rates or mark - began < seconds:
        images = sum(len(next(batches)[0]) for _ in range(WORKERS))
        before, mark = mark, time.perf_counter()
        rates.append(images / (mark - before))
    return rates


def measure_memory(path: Path) -> list[BenchmarkResult]:
    """Private memory that opening a store and reading an epoch of it adds to this process; empty where the system does not tell."""
    give_back_memory()
    fields = ("Anonymous", "Private_Dirty")
    before = [process_memory(field) for field in fields]
    store = Store.open(path)
    loader = BatchLoader(store, "train", BATCH_SIZE)
    for _ in loader:
        pass
    added = [(process_memory(field) or 0) - (start or 0) for field, start in zip(fields, before, strict=True)]
    if None in before:
        return []
    size = store.images.nbytes
    private = max(0, added[0])
    return [
        BenchmarkResult("store_mib", "the store's images", size / 2**20, "MiB"),
        BenchmarkResult("ring_mib", "the loader's buffers", 2 * BATCH_SIZE * store.images[0].nbytes / 2**20, "MiB"),
        BenchmarkResult("private_mib", "private memory added by an epoch (anonymous)", private / 2**20, "MiB"),
        BenchmarkResult("private_dirty_mib", "private memory added by an epoch (dirty)", max(0, added[1]) / 2**20, "MiB"),
        BenchmarkResult(
            "private_over_store", "private memory / store", 100 * private / size, "%", 100 * GOAL_PRIVATE_MEMORY, at_least=False
        ),
    ]
