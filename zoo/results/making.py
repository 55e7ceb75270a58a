"""Makes the zoo's own numbers: sweeps an experiment, evaluates every run, publishes and compares them, and renews the tables.

Stopped and called again, it goes on where it was.
"""

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from zoo.benchmarks.steps import clocked, device_of, random_batch, ready, step, train_settings
from zoo.config.instantiate import conf_dir
from zoo.config.overrides import quoted
from zoo.config.schema import PretrainSettings, ResolvedSettings
from zoo.errors import ZooError
from zoo.hardware import visible_gpus
from zoo.results.rows import add, is_evaluated
from zoo.results.tables import renew_pages
from zoo.runs.layout import read_config
from zoo.runs.status import state_of
from zoo.sweeps.local import LocalBackend
from zoo.sweeps.processes import Command
from zoo.sweeps.scheduler import run_jobs

RUNS = Path("runs/results")
# Everything that applies but the importance-weighted bound, which takes a flow longer than its training.
METRICS = "metrics=[samples,reconstructions,interpolations,representation,invariance,bits_per_dim,elbo_bits_per_dim,attributes,transfer]"
STEPS = 8  # of which the first warms up
EVALUATION_SECONDS = 100  # on one core, of 2,000 images of 32×32 (measured)


def make(experiment: str) -> None:
    """Sweeps `experiment` over the models and seeds that it names, evaluates all runs on the test split, publishes and compares them.

    Raises:
        ZooError: The experiment names no sweep, or a step of this failed for some run; what can be done without it has been done.
        SystemExit: After a signal, when the runs that were being trained have saved.
    """
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    swept: dict[str, Any] = dict(config.hydra.sweeper.get("params") or {})
    if not {"model", "seed"} <= swept.keys():
        raise ZooError(f"experiment={experiment} names no models and seeds to sweep over, in hydra.sweeper.params; take compare.")
    backend = LocalBackend("gpus" if visible_gpus() else "cpus")
    folder = RUNS / experiment
    models, seeds = swept["model"].split(","), len(str(swept["seed"]).split(","))
    estimate(experiment, left(folder, models, seeds), len(backend.slots))

    launcher = [f"hydra/launcher={backend.device}", "hydra.launcher.per_job=1"]
    sweep = ["-m", f"experiment={experiment}", *launcher, f"hydra.sweep.dir={folder}", "evaluation.samples=0", "logger=none"]
    trained = succeeded(Command("train", sweep))
    runs = finished(folder)
    failed = evaluate_all([run for run in runs if not is_evaluated(run)], config.evaluation.samples, backend)
    refusal = ""
    try:
        add([run for run in runs if run not in failed], experiment)
    except ZooError as error:
        refusal = str(error)
    compared = succeeded(Command("compare", [str(folder)]))
    renew_pages()
    wrong = []
    if failed:
        names = ", ".join(run.name for run in failed)
        wrong.append(f"These runs in {folder} could not be evaluated: {names}; see evaluation.txt there, and give the same command again.")
    if not (trained and compared):
        wrong.append(f"Not all of {folder} is done, see above and log.txt in the runs' folders; the same command goes on.")
    if refusal:
        wrong.append(refusal)
    if wrong:
        raise ZooError(" ".join(wrong))


def finished(folder: Path) -> list[Path]:
    """The runs of a sweep that are trained."""
    return [path.parent for path in sorted(folder.glob("*/config.yaml")) if state_of(path.parent) == "finished"]


def left(folder: Path, models: list[str], seeds: int) -> dict[str, tuple[int, int]]:
    """How many runs of each model are still to be trained, and how many to be evaluated."""
    trained, evaluated = Counter[str](), Counter[str]()
    for run in finished(folder):
        model = read_config(run)["model"]["name"]
        trained[model] += 1
        evaluated[model] += is_evaluated(run)
    return {model: (max(0, seeds - trained[model]), max(0, seeds - evaluated[model])) for model in models}


def estimate(experiment: str, left: dict[str, tuple[int, int]], slots: int) -> None:
    """Prints how long what is left of each model, runs to train and runs to evaluate, will take, from a few steps of each."""
    torch.set_num_threads(1)
    trainings, evaluations = (sum(counts) for counts in zip(*left.values(), strict=True))
    seconds = float(evaluations * EVALUATION_SECONDS)
    for model, (runs, _) in left.items():
        if runs:
            seconds += runs * seconds_of(train_settings(f"experiment={experiment}", f"model={model}", "trainer.devices=1"))
    end = time.strftime("%H:%M", time.localtime(time.time() + seconds / slots))
    print(f"{trainings} runs to train, {evaluations} to evaluate: about {seconds / slots / 60:,.0f} minutes, until {end}.", flush=True)


def seconds_of(settings: ResolvedSettings) -> float:
    """About how long a run with these settings trains, over all stages, on random images."""
    device, mixed = device_of(settings)
    model = ready(settings, device)
    optimizer, batch = model.build_optimizer(), random_batch(settings.batch_size, settings.data.image_size, device)
    milliseconds = [clocked(lambda batch: step(model, optimizer, batch, mixed), batch) for _ in range(STEPS)]
    seconds = statistics.median(milliseconds[1:]) / 1000 * settings.max_images / settings.batch_size
    if settings.pretrain.model is None:
        return seconds
    first = settings.model_copy(update={"model": settings.pretrain.model, "pretrain": PretrainSettings(run=None)})
    return (1 - settings.pretrain.share) * seconds + settings.pretrain.share * seconds_of(first)


def evaluate_all(runs: list[Path], samples: int, backend: LocalBackend) -> list[Path]:
    """Evaluates runs, as many at once as the backend has slots; returns those where it failed."""
    commands = [Command("evaluate", [f"run={quoted(run)}", f"samples={samples}", METRICS], run / "evaluation.txt") for run in runs]
    return [run for run, outcome in zip(runs, run_jobs(commands, backend), strict=True) if outcome.status != "finished"]


def succeeded(command: Command) -> bool:
    """Runs a command with the whole machine; whether it succeeded. Raises SystemExit after a signal."""
    return run_jobs([command], LocalBackend("machine"))[0].status == "finished"
