"""Makes the zoo's own numbers: sweeps an experiment, evaluates every run, publishes and compares them.

Stopped and called again, it goes on where it was.
"""

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from zoo.benchmarks.training import clocked, device_of, random_batch, ready, step, train_config
from zoo.engine.config import conf_dir
from zoo.engine.sweep import clean_environment, quoted, state_of
from zoo.errors import ZooError
from zoo.results.rows import add, is_evaluated

RUNS = Path("runs/results")
# Everything that applies but the importance-weighted bound, which takes a flow longer than its training.
METRICS = "metrics=[samples,reconstructions,interpolations,representation,invariance,bits_per_dim,elbo_bits_per_dim,attributes,transfer]"
STEPS = 8  # of which the first warms up
EVALUATION_SECONDS = 100  # on one core, of 2,000 images of 32×32 (measured)


def make(experiment: str) -> None:
    """Sweeps `experiment` over the models and seeds that it names, evaluates all runs on the test split, publishes and compares them.

    Raises:
        ZooError: The experiment names no sweep, or a step of this failed.
    """
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    swept: dict[str, Any] = dict(config.hydra.sweeper.get("params") or {})
    if not {"model", "seed"} <= swept.keys():
        raise ZooError(f"experiment={experiment} names no models and seeds to sweep over, in hydra.sweeper.params; take compare.")
    gpus = torch.cuda.device_count()
    slots = gpus or len(os.sched_getaffinity(0))
    models, seeds = swept["model"].split(","), len(str(swept["seed"]).split(","))
    estimate(experiment, models, seeds, slots)

    folder = RUNS / experiment
    launcher = [f"hydra/launcher={'gpus' if gpus else 'cpus'}", "hydra.launcher.per_job=1"]
    sweep = ["-m", f"experiment={experiment}", *launcher, f"hydra.sweep.dir={folder}", "evaluation.samples=0", "logger=none"]
    trained = call("train", *sweep) == 0
    runs = [path.parent for path in sorted(folder.glob("*/config.yaml")) if state_of(path.parent) == "finished"]
    failed = evaluate_all([run for run in runs if not is_evaluated(run)], config.evaluation.samples, slots)
    for run in runs:
        if run not in failed:
            add(run, experiment)
    compared = call("compare", str(folder)) == 0
    if failed:
        names = ", ".join(run.name for run in failed)
        raise ZooError(
            f"These runs in {folder} could not be evaluated: {names}; see evaluation.txt there, and give the same command again."
        )
    if not (trained and compared):
        raise ZooError(f"Not all of {folder} is done, see above and log.txt in the runs' folders; the same command goes on.")


def estimate(experiment: str, models: list[str], seeds: int, slots: int) -> None:
    """Prints how long all will take, from a few steps of each model."""
    console, table = Console(), Table("model", "images/s", "minutes", title=f"experiment={experiment}: {seeds} seeds, {slots} runs at once")
    for column in table.columns[1:]:
        column.justify = "right"
    torch.set_num_threads(1)
    total = 0.0
    for model in models:
        config = train_config(f"experiment={experiment}", f"model={model}", "trainer.devices=1")
        seconds = seconds_of(config)
        table.add_row(model, f"{config.budget / seconds:,.0f}", f"{seconds / 60:,.1f}")
        total += seeds * (seconds + EVALUATION_SECONDS) / slots
    console.print(table)
    end = time.strftime("%H:%M", time.localtime(time.time() + total))
    console.print(f"{len(models) * seeds} runs and their evaluation: about {total / 60:,.0f} minutes, until {end}.", highlight=False)


def seconds_of(config: DictConfig) -> float:
    """About how long a run with these settled settings trains, over all stages, on random images."""
    device, mixed = device_of(config)
    model = ready(config, device)
    optimizer, batch = model.configure_optimizers(), random_batch(config.batch_size, config.data.image_size, device)
    milliseconds = [clocked(lambda batch: step(model, optimizer, batch, mixed), batch) for _ in range(STEPS)]
    seconds = statistics.median(milliseconds[1:]) / 1000 * config.budget / config.batch_size
    if "model" not in config.pretrain:
        return seconds
    first: Any = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    share, first.model, first.pretrain = first.pretrain.share, first.pretrain.model, {"run": None}
    return (1 - share) * seconds + share * seconds_of(first)


def evaluate_all(runs: list[Path], samples: int, slots: int) -> list[Path]:
    """Evaluates runs, as many at once as there are slots (GPUs or cores); returns those where it failed."""
    free: Queue[int] = Queue()
    for slot in range(slots):
        free.put(slot)

    def evaluate(run: Path) -> int:
        slot = free.get()
        print(f"evaluates {run}", flush=True)
        place = {"CUDA_VISIBLE_DEVICES": str(slot)} if torch.cuda.device_count() else {"OMP_NUM_THREADS": "1"}
        try:
            with open(run / "evaluation.txt", "w") as log:
                return call("evaluate", f"run={quoted(run)}", f"samples={samples}", METRICS, output=log, **place)
        finally:
            free.put(slot)

    with ThreadPoolExecutor(slots) as pool:
        codes = list(pool.map(evaluate, runs))
    return [run for run, code in zip(runs, codes, strict=True) if code]


def call(verb: str, *arguments: str, output: Any = None, **variables: str) -> int:
    """Types a command of the zoo, in a process of its own; returns its exit code."""
    command = [sys.executable, "-m", f"zoo.{verb}", *arguments]
    return subprocess.run(command, env=clean_environment() | variables, stdout=output, stderr=output and subprocess.STDOUT).returncode
