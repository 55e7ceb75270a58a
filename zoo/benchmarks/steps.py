"""What training costs: what the zoo's Trainer adds to a bare PyTorch loop, and images/s and memory of every model.

The Trainer and the bare loop take turns in one process, step by step on a CPU and logging interval by logging interval on a GPU
(where a step's host work hides behind the step before), and the medians of the differences of neighbours count.
"""

import contextlib
import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from zoo.batch import Batch, to_float
from zoo.benchmarks.measure import BenchmarkResult, RandomImages, milliseconds_of, peak_memory, synchronize, take_turns, threads
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.progress_bar import ProgressLine
from zoo.callbacks.training_metrics import TrainingMetricsLogger
from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.config.schema import ResolvedSettings
from zoo.data.faces.dataset import ATTRIBUTE_NAMES
from zoo.data.loader import BatchLoader
from zoo.data.module import DataModule
from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.runs.build import build_trainable
from zoo.runs.layout import METRICS
from zoo.runs.metrics_csv import MetricsCsv
from zoo.training.loggers import CsvLogger
from zoo.training.resolve import resolve_config
from zoo.training.trainer import build_trainer

GOAL_ADDED_MS = 1.5  # per step of a one-layer model
GOAL_ADDED_PERCENT = 3  # of a step of the default VAE
GOALS = {("vae", 64, "eager"): 250}  # images/s
WARM_UP = 3  # turns that do not count
PROBE = 8  # images with which the time of a step is estimated


def train_settings(*overrides: str) -> ResolvedSettings:
    """What `python -m zoo.train` with these overrides would run with."""
    if GlobalHydra.instance().is_initialized():  # by the command
        config = hydra.compose("train", list(overrides))
    else:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = hydra.compose("train", list(overrides))
    return resolve_config(check(config))


def device_of(settings: ResolvedSettings) -> tuple[torch.device, bool]:
    """Where a run with these resolved settings trains, and whether in bf16."""
    return torch.device("cuda" if settings.trainer.accelerator == "gpu" else "cpu"), settings.trainer.precision == "bf16-mixed"


def ready(settings: ResolvedSettings, device: torch.device) -> Autoencoder:
    """The model of resolved settings, as it is before its first step on random batches."""
    model = build_trainable(settings).to(device).train()
    model.set_attribute_names(ATTRIBUTE_NAMES)
    model.prepare_losses()
    with torch.no_grad():
        model.initialize(random_batch(PROBE, settings.data.image_size, device))
    model.set_batch_rng((settings.seed,), 0, 0, 0)  # a flow has drawn noise for that batch; the coming ones have other sizes
    return model


def step(model: Autoencoder, optimizer: torch.optim.Optimizer, batch: Batch, mixed: bool) -> Tensor:
    """A training step without the zoo around it; returns the loss."""
    optimizer.zero_grad()
    with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
        loss = model.training_step(batch, 0)["loss"]
    loss.backward()
    optimizer.step()
    return loss.detach()


class OneLayer(Autoencoder):
    """As little model as possible: what is left of a step is the loop around it."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape, 8)
        self.layer = nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], 8)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.layer(batch.image.flatten(1)).square().mean()}


class TakeTurns(pl.Callback):
    """Inside a training by the zoo: after each block of its steps, as many bare ones, and as many batches only read.

    The other callbacks' work and what Lightning does between two steps belong to the zoo's time.
    """

    def __init__(self, bare: Iterator[Tensor], reading: Iterator[None], block: int, seconds: float, interval: int) -> None:
        self.bare, self.reading, self.block, self.seconds, self.interval = bare, reading, block, seconds, interval
        self.zoo_ms: list[float] = []  # per block of steps
        self.bare_ms: list[float] = []
        self.reading_ms: list[float] = []
        self.logs: list[bool] = []  # whether the zoo logged in the block
        self._mark: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        steps = trainer.global_step
        if steps % self.block:
            return
        mark = self._mark
        end = self.now(pl_module.device)
        turns = []
        for other in (self.bare, self.reading):
            start = self.now(pl_module.device)
            for _ in range(self.block):
                next(other)
            turns.append(self.now(pl_module.device) - start)
        if mark is None:
            self._began = end
        elif steps > WARM_UP * self.block:
            self.zoo_ms.append(end - mark)
            self.bare_ms.append(turns[0])
            self.reading_ms.append(turns[1])
            self.logs.append(steps // self.interval > (steps - self.block) // self.interval)
        if end - self._began > 1000 * self.seconds and any(self.logs):
            trainer.should_stop = True
        self._mark = self.now(pl_module.device)

    @staticmethod
    def now(device: torch.device) -> float:
        """Milliseconds, after all work given to the GPU is done."""
        synchronize(device)
        return 1000 * time.perf_counter()

    def per_step(self, milliseconds: list[float]) -> float:
        """Milliseconds per step over a logging interval: one median for steps that log and one for those that do not."""
        plain_steps, logging_steps = (
            [ms for ms, log in zip(milliseconds, self.logs, strict=True) if log == kind] for kind in (False, True)
        )
        blocks = self.interval / self.block
        total = (blocks - 1) * statistics.median(plain_steps) if plain_steps else 0.0
        return (total + statistics.median(logging_steps)) / self.interval


def measure_overhead(
    store_images: int, cache: Path, folder: Path, batch_size: int, seconds: float, print_progress: Callable[[str], None]
) -> list[BenchmarkResult]:
    """What a step takes more in the zoo than in a bare loop over the same batches, for a one-layer model and the default VAE."""
    results = []
    settings = train_settings("model=vae", f"batch_size={batch_size}", "trainer.devices=1")
    for name, title, share, goal in (("one_layer", "one layer, one thread", 1, GOAL_ADDED_MS), ("vae", "VAE 64×64", 6, None)):
        print_progress(f"overhead: {title}, batch {batch_size}")
        model = build_trainable(settings)
        if name == "one_layer":
            tiny = OneLayer((3, 64, 64))
            tiny.training_config, model = model.training_config, tiny
        # A small step on several threads mostly waits for them to wake up, which is not the loop's work.
        with threads(1 if name == "one_layer" else torch.get_num_threads()):
            turns = run_turns(settings, model, RandomImages(store_images), cache, folder / name, share * seconds)
        bare, zoo, reading = (turns.per_step(ms) for ms in (turns.bare_ms, turns.zoo_ms, turns.reading_ms))
        added = turns.per_step([a - b for a, b in zip(turns.zoo_ms, turns.bare_ms, strict=True)])
        results += [
            BenchmarkResult(f"{name}_bare_ms_per_step", f"{title}: bare loop", bare, "ms/step"),
            BenchmarkResult(f"{name}_zoo_ms_per_step", f"{title}: zoo.train", zoo, "ms/step"),
            BenchmarkResult(f"{name}_reading_ms_per_step", f"{title}: reading alone", reading, "ms/step"),
            BenchmarkResult(f"{name}_added_ms_per_step", f"{title}: zoo − bare", added, "ms/step", goal, at_least=False),
        ]
        if name == "vae":
            results.append(
                BenchmarkResult("vae_added_percent", f"{title}: added to bare", 100 * added / bare, "%", GOAL_ADDED_PERCENT, at_least=False)
            )
    return results


def run_turns(settings: ResolvedSettings, model: Autoencoder, source: RandomImages, cache: Path, run: Path, seconds: float) -> TakeTurns:
    """Trains with what `zoo.train` trains with, except validation and checkpoints, and takes turns with a bare loop."""
    run.mkdir()
    device, mixed = device_of(settings)
    data = DataModule(source, settings.batch_size, cache, seed=settings.seed, flip=True)
    interval = max(1, settings.log_every_images // settings.batch_size)  # steps

    plain = copy.deepcopy(model).to(device)
    plain.prepare_losses()
    loader = BatchLoader(data.store, "train", settings.batch_size, storage="mmap")
    floats = [to_float(batch, loader.flips) for batch in itertools.islice(loader, 8)]
    batches = itertools.cycle([Batch(*(part.clone().to(device) for part in batch)) for batch in floats])
    with torch.no_grad():
        plain.initialize(next(batches))
    optimizer = plain.build_optimizer()
    bare = (step(plain, optimizer, batch, mixed) for batch in batches)

    block = interval if device.type == "cuda" else 1
    turns = TakeTurns(bare, reading(data.store, settings, device), block, seconds, interval)
    training_metrics = TrainingMetricsLogger(settings.log_every_images)
    never = PeriodicCheckpoint(run, 10**12)  # without one Lightning would add its own
    callbacks = [training_metrics, ProgressLine(training_metrics, settings.max_images), never, turns]
    trainer = build_trainer(settings.trainer, run, 10**9, callbacks, [CsvLogger(MetricsCsv(run / METRICS, settings.batch_size))])
    with contextlib.redirect_stdout(sys.stderr):  # the progress line; the tables alone go to stdout
        trainer.fit(model, data)
    return turns


def reading(store: Any, settings: ResolvedSettings, device: torch.device) -> Iterator[None]:
    """Reads one float batch after the other as the data module does, without a model."""
    loader = BatchLoader(store, "train", settings.batch_size, storage="auto", device=device)
    buffer = torch.empty(settings.batch_size, *store.images.shape[1:], device=device)
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        for batch in loader:
            to_float(batch, loader.flips, buffer)
            yield


def measure_training(
    models: list[str], sizes: list[int], batch_size: int, seconds: float, compiled: bool, print_progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Images/s and peak memory of a training step: one row per model, size and mode. What cannot be built is a row with a note."""
    rows = []
    for size, name in itertools.product(sizes, models):
        print_progress(f"training: {name}, {size}×{size}")
        try:
            rows += measure_model(name, size, batch_size, seconds, ["eager", "compiled"] if compiled else ["eager"])
        except (ZooError, HydraException, OmegaConfBaseException, torch.OutOfMemoryError) as error:
            rows.append({"model": name, "image_size": size, "note": " ".join(str(error).split())})
    return rows


def measure_model(name: str, size: int, batch_size: int, seconds: float, modes: list[str]) -> list[dict[str, Any]]:
    """The rows of one model at one size. Its modes take turns; the batch is halved until a step takes no longer than half of `seconds`."""
    settings = train_settings(f"model={name}", f"data.image_size={size}", f"batch_size={batch_size}", "trainer.devices=1")
    device, mixed = device_of(settings)
    takes: dict[str, Callable[[Batch], Tensor]] = {}
    resident, peaks = {}, {}
    for mode in modes:
        settings.compile = mode == "compiled"
        model = ready(settings, device)
        optimizer = model.build_optimizer()
        takes[mode] = partial(step, model, optimizer, mixed=mixed)
        resident[mode] = partial(resident_bytes, model, optimizer)

    probe = random_batch(PROBE, size, device)
    fastest = clocked(takes["eager"], probe)
    if fastest < 1000 * seconds:
        fastest = min(clocked(takes["eager"], probe) for _ in range(3))
    while batch_size > 2 and fastest * batch_size / PROBE > 500 * seconds:
        batch_size //= 2

    batch, rows = random_batch(batch_size, size, device), []
    for mode, take in takes.items():
        take(batch)  # the first step allocates, compiles and chooses algorithms
        peak, static = peak_memory(partial(take, batch), device), resident[mode]() + sum(part.nbytes for part in batch)
        peaks[mode] = None if peak is None else (peak + static) / 2**20
    times = take_turns({mode: partial(take, batch) for mode, take in takes.items()}, device, seconds * len(modes), warm_up=0, least=3)
    for mode in modes:
        milliseconds_per_step = statistics.median(times[mode])
        rate = 1000 * batch_size / milliseconds_per_step
        goal = GOALS.get((name, size, mode))
        rows.append(
            {
                "model": name,
                "image_size": size,
                "mode": mode,
                "batch_size": batch_size,
                "precision": settings.trainer.precision,
                "images_per_second": rate,
                "ms_per_step": milliseconds_per_step,
                "peak_memory_mib": peaks[mode],
                "goal_images_per_second": goal,
                "met": None if goal is None else rate >= goal,
            }
        )
    return rows


def clocked(take: Callable[[Batch], Tensor], batch: Batch) -> float:
    """Milliseconds of a step."""
    return milliseconds_of(partial(take, batch), batch.image.device)


def resident_bytes(model: Autoencoder, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, buffers, gradients and optimizer state: what a model holds between two steps."""
    parameters = list(model.parameters())
    held = [*parameters, *model.buffers(), *(p.grad for p in parameters if p.grad is not None)]
    held += [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in held)


def random_batch(count: int, size: int, device: torch.device) -> Batch:
    """A float batch of noise; even rows lack every attribute and odd rows have it, as models of two domains want it."""
    image = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    attributes = (torch.arange(count) % 2)[:, None].repeat(1, len(ATTRIBUTE_NAMES)).to(torch.uint8)
    return Batch(image.to(device), attributes.to(device), torch.arange(count, device=device))
