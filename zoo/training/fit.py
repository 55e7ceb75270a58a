"""One stage of a run: builds the model, its data, the callbacks and the Trainer; fits; evaluates; writes the summary."""

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, WeightAveraging
from pytorch_lightning.utilities import rank_zero_only

from zoo import hardware
from zoo.callbacks.clock import end_reason, is_last_step
from zoo.callbacks.collapse_warning import CollapseWarning
from zoo.callbacks.line_metrics import LineMetrics
from zoo.callbacks.linear_probe import ConcurrentProbe, labels_that_vary
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.prior_fitter import PriorFitter
from zoo.callbacks.progress_bar import ProgressLine
from zoo.callbacks.sample_logger import SampleLogger
from zoo.callbacks.stop_on_signal import StopOnSignal
from zoo.callbacks.training_metrics import TrainingMetricsLogger
from zoo.callbacks.validation_metrics import ValidationMetrics
from zoo.config.schema import ResolvedSettings
from zoo.data.module import DataModule
from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.runs import checkpoint, records
from zoo.runs.build import build_data, build_trainable
from zoo.runs.layout import FORMAT, METRICS, PICTURES, SUMMARY, write_config
from zoo.runs.load import Run, fit_weights
from zoo.runs.measurements import measurements_of
from zoo.runs.metrics_csv import MetricsCsv
from zoo.runs.provenance import versions
from zoo.runs.status import is_complete
from zoo.runs.summary import write_summary
from zoo.training.callbacks import build_callbacks
from zoo.training.final_evaluation import evaluate_validation
from zoo.training.loggers import CsvLogger, begin_loggers, build_loggers, close_loggers, log_summary
from zoo.training.printed import print_start, print_summary
from zoo.training.trainer import build_trainer, moving_average


class Stage(NamedTuple):
    """One training of a run; most runs have one."""

    settings: ResolvedSettings  # resolved; max_images counts the images of earlier stages, too
    folder: Path  # where it leaves config.yaml, checkpoints/, …
    run: Path  # the whole run's folder, which `resume` names
    resuming: bool = False  # from the newest good checkpoint in its folder
    earlier: Run | None = None  # what it starts from, if it does not resume


class Start(NamedTuple):
    """Where a stage begins."""

    checkpoint: Path | None  # that it resumes from
    earlier: dict[str, Any]  # what the stages before it have spent; empty if there was none
    command: str  # that trains it, for the record


def train_stage(stage: Stage, overrides: list[str], stop: StopOnSignal) -> None:
    """Trains one stage; on every rank of a DDP run.

    Args:
        stage: What is trained.
        overrides: Those of the command line, for the record.
        stop: The same object in all stages of a run: a signal at the end of one stops the next.

    Raises:
        ZooError: Something does not fit (said before anything is written), training diverged, or the last checkpoint was not written.
    """
    settings, folder, batch_size = stage.settings, stage.folder, stage.settings.batch_size
    pl.seed_everything(settings.seed, verbose=False)
    model = build_trainable(settings)
    added, loggers = build_callbacks(settings, folder), build_loggers(settings, folder)
    start = resumed(stage, model, overrides) if stage.resuming else started(stage, model, overrides)
    before = start.earlier.get("images_seen", 0)
    if settings.max_images - before < batch_size:
        raise ZooError(
            f"The {before:,} images that {start.earlier['checkpoint']} has seen count as spent, so max_images={settings.max_images} leaves "
            f"no batch of {batch_size}; raise it, for example to {2 * before}."
        )
    model.training_config.images_before, model.training_config.max_images = before, settings.max_images - before
    data = checked_data(settings, model)
    model.provenance = {"format": FORMAT, "config": settings.plain(), "versions": versions(), "command": start.command}
    if start.earlier:
        model.provenance["pretrain"] = start.earlier
    begin = before if start.checkpoint is None else int(start.checkpoint.stem)  # images seen before this session
    known, _ = records.read(folder / SUMMARY)
    known = known if start.checkpoint and begin == known.get("images_seen") else {}  # of these very weights
    done, steps = (begin - before) // batch_size, model.training_config.max_images // batch_size
    if known and is_complete(known, {"max_images": settings.max_images}):
        steps = min(steps, done)  # what has ended it before goes on to hold

    training_metrics, validation, probes = (
        TrainingMetricsLogger(settings.log_every_images),
        ValidationMetrics(),
        probes_of(settings, model, data),
    )
    callbacks: list[pl.Callback] = [
        validation,
        PriorFitter(),
        SampleLogger(folder / PICTURES),
        CollapseWarning(),
        *added,
        # What stands above sees the averaged weights when it is validated, and what stands below knows whether that stops the training.
        *([WeightAveraging(avg_fn=moving_average(settings.ema_decay))] if settings.ema_decay else []),
        training_metrics,
        *probes,
        stop,
        PeriodicCheckpoint(folder, settings.checkpoint_every_images, settings.keep_last_k, stop, stage.run),
    ]
    if settings.trainer.enable_progress_bar is not False and not any(isinstance(one, ProgressBar) for one in added):
        callbacks.append(ProgressLine(training_metrics, settings.max_images))
    val_every, log_every = (max(1, round(n / batch_size)) for n in (settings.val_every_images, settings.log_every_images))
    if settings.trainer.fast_dev_run:
        try_for_a_moment(
            build_trainer(settings.trainer, folder, steps, [validation, PriorFitter(), *added], [], val_every=1), model, data, stage.run
        )
        return

    announce(stage, model, start, known, begin, steps)
    folder.mkdir(parents=True, exist_ok=True)
    csv = MetricsCsv(folder / METRICS, batch_size, before)
    begin_loggers(loggers, settings)
    if hardware.is_rank_zero():
        write_config(settings, folder)
        checkpoint.remove_leftovers(folder)
        csv.rewind(done)
    trainer = build_trainer(settings.trainer, folder, steps, callbacks, [CsvLogger(csv), *loggers.values()], val_every, log_every)
    try:
        trainer.fit(model, data, ckpt_path=start.checkpoint, weights_only=True)
        model.to(trainer.strategy.root_device)  # Lightning has moved it off
        seen, complete, why = before + trainer.global_step * batch_size, is_last_step(trainer), end_reason(trainer, model)
        known = known if seen == begin else {}
        if why and trainer.is_global_zero:
            print(f"Training ended after {seen:,} of {settings.max_images:,} images: {why}.", flush=True)
        peak_memory_mib = known.get("peak_memory_mib") or hardware.peak_memory_mib(model.device)
        measurements = measurements_of(known) if known else []
        if complete and not measurements:
            with stop.remembering():
                measurements = evaluate_validation(trainer, model, data, settings, folder)
        if trainer.is_global_zero:
            latest = validation.latest | known.get("metrics", {})
            for probe in probes:
                latest |= probe.latest
            complete = complete and not trainer.strategy.checkpoint_io.failed
            spent, ended = (seen - before, training_metrics.train_seconds), why or known.get("training", {}).get("ended", "")
            summary = write_summary(folder, settings, model, latest, measurements, *spent, complete, ended, peak_memory_mib)
            print_summary(folder, summary, settings.ema_decay is not None)
            log_summary(trainer.loggers, summary)
    finally:
        close_loggers(trainer.loggers)
    failed = trainer.strategy.broadcast(trainer.strategy.checkpoint_io.failed)  # no rank goes on to another stage alone
    if failed:
        raise ZooError(failed)


@rank_zero_only
def announce(stage: Stage, model: Autoencoder, start: Start, known: dict[str, Any], begin: int, steps: int) -> None:
    """Says what is trained, or why nothing is left to train.

    Args:
        stage: What is trained.
        model: Its model.
        start: Where it begins.
        known: summary.json of the weights that it begins with, if there is one.
        begin: Images seen before this session.
        steps: Optimizer steps of the whole stage.
    """
    settings = stage.settings
    if start.checkpoint is None:
        print_start(settings, model, start.command)
    elif (begin - model.training_config.images_before) // settings.batch_size >= steps and stage.folder == stage.run:
        ended = known.get("training", {}).get("ended")
        how = f"was ended after {begin:,} images ({ended})" if ended else f"has reached max_images={settings.max_images:,}"
        print(f"This run {how}; give a larger max_images to train it further.")
    if settings.ema_decay and (window := 1 / (1 - settings.ema_decay)) > steps:
        print(f"ema_decay={settings.ema_decay} averages over {window:,.0f} steps, and this training has {steps:,}.", file=sys.stderr)


def try_for_a_moment(trainer: pl.Trainer, model: Autoencoder, data: DataModule, run: Path) -> None:
    """Lightning's fast_dev_run: a few batches of training and validation, of which nothing is kept."""
    trainer.fit(model, data)
    if trainer.is_global_zero:
        print(f"{type(model).__name__} was trained and validated for a moment; nothing is kept (trainer.fast_dev_run).")
        with contextlib.suppress(OSError):
            run.rmdir()  # Hydra has made it


def resumed(stage: Stage, model: Autoencoder, overrides: list[str]) -> Start:
    """Finds the checkpoint that a stopped stage goes on from. Raises ZooError if none fits the model."""
    path, state = checkpoint.newest_good(stage.folder)
    fit_weights(model, state, path)
    changed = [override for override in overrides if not override.startswith("resume=")]
    began = state["zoo"].get("command", "unknown")
    command = f"{began}; then resume=RUN {shlex.join(changed)}" if changed else began
    return Start(path, state["zoo"].get("pretrain", {}), command)


def started(stage: Stage, model: Autoencoder, overrides: list[str]) -> Start:
    """Gives the model of a new stage what an earlier one has trained. Raises ZooError if that does not fit."""
    settings, first_here = stage.settings, stage.earlier and stage.settings.pretrain.run is None
    rates = [model.group_options.get(group_name, {}).get("lr") for group_name in model.param_groups()]
    given = any(override.startswith("optimizer.lr=") for override in overrides)
    if given and None not in rates and settings.optimizer.lr not in rates and not first_here:  # an earlier stage has followed it
        names = ", ".join(f"model.param_groups.{group_name}.lr" for group_name in model.param_groups())
        raise ZooError(
            f"optimizer.lr has no effect here, as every parameter group of {settings.model['name']} has its own learning rate; set {names}."
        )
    model.start_from(stage.earlier and stage.earlier.model)
    earlier = stage.earlier.as_pretraining(stage.folder) if stage.earlier else {}
    return Start(None, earlier, shlex.join(["python", "-m", "zoo.train", *overrides]))


def probes_of(settings: ResolvedSettings, model: Autoencoder, data: DataModule) -> list[Any]:
    """The callbacks that score the codes while training. Raises ZooError for data without labels."""
    probes: list[Any] = []
    if settings.probe_every_images:
        if model.can_encode:
            labels_that_vary(data)  # refused before anything is written
        probes.append(ConcurrentProbe(every=settings.probe_every_images))
    if settings.data.name == "lines":
        probes.append(LineMetrics())
    return probes


def checked_data(settings: ResolvedSettings, model: Autoencoder) -> DataModule:
    """The data of resolved settings, opened, and known to fit the settings and the model. Raises ZooError."""
    name = settings.data.name
    domain = settings.model.get("domain", settings.data.domain)
    if domain != settings.data.domain:
        raise ZooError(
            f"model.domain={domain} is not the domain of the batches, data.domain={settings.data.domain}; set data.domain alone."
        )
    if "domain" in settings.model and domain is None:
        raise ZooError(f"model={settings.model['name']} needs two domains of images; set data.domain to the name of an attribute.")
    data = build_data(settings)
    data.check(settings.trainer.world_size, settings.trainer.accumulate_grad_batches)
    model.set_attribute_names(data.store.attribute_names)
    model.original_values = data.store.original_values
    shape = data.store.images.shape[1:]
    if model.image_shape != shape:
        theirs, own = ("×".join(map(str, numbers)) for numbers in (shape, model.image_shape))
        raise ZooError(f"The images of data={name} are {theirs}, but this model's {own}; set data.image_size={own.split('×')[1]}.")
    return data
