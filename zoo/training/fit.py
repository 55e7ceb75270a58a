"""One stage of a run: builds the model, its data, what watches them and the Trainer; trains; leaves numbers behind."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import WeightAveraging

from zoo import hardware
from zoo.callbacks.line_metrics import LineMetrics
from zoo.callbacks.linear_probe import ConcurrentProbe, labels_that_vary
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.progress_bar import ProgressLine
from zoo.callbacks.stop_on_signal import StopOnSignal
from zoo.callbacks.training_metrics import Monitor
from zoo.callbacks.validate import Watch
from zoo.data.module import DataModule
from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.runs import checkpoint
from zoo.runs.build import data_of, model_of
from zoo.runs.files import save_settings
from zoo.runs.load import Run, fit_weights
from zoo.runs.provenance import versions
from zoo.runs.summary import write_summary
from zoo.training.loggers import CsvLogger, build_loggers, close_loggers, log_summary
from zoo.training.printed import print_model, print_summary, print_tree
from zoo.training.trainer import build_trainer, moving_average


class Stage(NamedTuple):
    """One training of a run; most runs have one."""

    config: DictConfig  # settled; its budget counts the images of earlier stages, too
    folder: Path  # where it leaves config.yaml, checkpoints/, …
    run: Path  # the whole run's folder, which `resume` names
    resuming: bool = False  # from the newest good checkpoint in its folder
    earlier: Run | None = None  # what it starts from, if it does not resume


def train_stage(stage: Stage, overrides: list[str], stop: StopOnSignal) -> None:
    """Trains one stage; on every rank of a DDP run.

    Args:
        stage: What is trained.
        overrides: Those of the command line, for the record.
        stop: The same object in all stages of a run: a signal at the end of one stops the next.

    Raises:
        ZooError: Something does not fit (said before anything is written), training diverged, or the last checkpoint was not written.
    """
    config, folder = stage.config, stage.folder
    pl.seed_everything(config.seed, verbose=False)
    model = model_of(config)
    command, start = shlex.join(["python", "-m", "zoo.train", *overrides]), None
    earlier: dict[str, Any] = {}  # what the stages before this one have spent
    if stage.resuming:
        start, state = checkpoint.newest_good(folder)
        fit_weights(model, state, start)
        earlier = state["zoo"].get("pretrain", {})
        changed = [override for override in overrides if not override.startswith("resume=")]
        began = state["zoo"].get("command", "unknown")
        command = f"{began}; then resume=RUN {shlex.join(changed)}" if changed else began
    else:
        plain: Any = OmegaConf.to_container(config.model.get("player_options", {}), resolve=False)
        follow = [player for player, options in plain.items() if options.get("lr") == "${optimizer.lr}"]
        own_rates = all("lr" in model.player_options.get(player, {}) and player not in follow for player in model.players())
        first_here = stage.earlier and config.pretrain.run is None  # a stage that has followed it
        if own_rates and not first_here and any(override.startswith("optimizer.lr=") for override in overrides):
            names = ", ".join(f"model.player_options.{player}.lr" for player in model.players())
            raise ZooError(
                f"optimizer.lr has no effect here, as every player of {config.model.name} has a learning rate of its own; set {names}."
            )
        model.start_from(stage.earlier and stage.earlier.model)
        earlier = stage.earlier.as_pretraining(folder) if stage.earlier else {}
    before = earlier.get("images_seen", 0)
    if config.budget - before < config.batch_size:
        raise ZooError(
            f"The {before:,} images that {earlier['checkpoint']} has seen count as spent, so budget={config.budget} leaves no batch of "
            f"{config.batch_size}; raise it, for example to {2 * before}."
        )
    model.recipe.before, model.recipe.budget = before, config.budget - before
    steps = model.recipe.budget // config.batch_size
    data = checked_data(config, model)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    model.provenance = {"format": checkpoint.FORMAT, "config": settings, "versions": versions(), "command": command}
    if earlier:
        model.provenance["pretrain"] = earlier

    begin = before if start is None else int(start.stem)  # images seen before this session
    monitor = Monitor(config.log_every)
    watch = Watch(folder, config.watch_every, config.evaluation.samples, config.evaluation.metrics, begin)
    probes: list[Any] = []
    if config.probe_every:
        if model.can_encode:
            labels_that_vary(data)  # data without labels are refused before anything is written
        probes.append(ConcurrentProbe(every=config.probe_every))
    if config.data.name == "lines":
        probes.append(LineMetrics())
    averaging = [WeightAveraging(avg_fn=moving_average(config.ema))] if config.ema else []
    saver = PeriodicCheckpoint(folder, config.checkpoint_every, config.keep_checkpoints, stop, stage.run)
    callbacks = [
        *averaging,
        monitor,
        ProgressLine(monitor, config.budget),
        *probes,
        watch,
        stop,
        saver,
    ]  # the bar ends before the evaluation

    if start is None:
        print_tree(settings)
        print_model(model)
    elif (begin - before) // config.batch_size >= steps and folder == stage.run:
        print(f"This run has reached its budget of {config.budget:,} images; give a larger budget to train it further.")
    folder.mkdir(parents=True, exist_ok=True)
    loggers = build_loggers(config.logger, folder, settings)
    save_settings(config, folder)
    if hardware.is_first_process():
        checkpoint.remove_leftovers(folder)
    next(logger for logger in loggers if isinstance(logger, CsvLogger)).rewind(begin)

    trainer: Any = build_trainer(config.trainer, folder, steps, callbacks, loggers)
    try:
        trainer.fit(model, data, ckpt_path=start, weights_only=True)
        if trainer.is_global_zero:
            images = trainer.global_step * config.batch_size
            latest = watch.latest | {name: value for probe in probes for name, value in probe.latest.items()}
            complete = trainer.global_step >= trainer.max_steps and not trainer.strategy.checkpoint_io.failed
            spent = (images, monitor.train_seconds)
            summary = write_summary(folder, settings, model, latest, watch.measurements, *spent, complete, watch.peak_memory_mib)
            print_summary(folder, summary)
            log_summary(loggers, summary)
    finally:
        close_loggers(loggers)
    failed = trainer.strategy.broadcast(trainer.strategy.checkpoint_io.failed)  # no rank goes on to another stage alone
    if failed:
        raise ZooError(failed)


def checked_data(config: DictConfig, model: Autoencoder) -> DataModule:
    """The data of settled settings, opened, and known to fit the settings and the model. Raises ZooError."""
    domain = config.model.get("domain", config.data.domain)
    if domain != config.data.domain:
        raise ZooError(f"model.domain={domain} is not the domain of the batches, data.domain={config.data.domain}; set data.domain alone.")
    if "domain" in config.model and domain is None:
        raise ZooError(f"model={config.model.name} needs two domains of images; set data.domain to the name of an attribute.")
    data = data_of(config)
    data.check(config.trainer.devices * config.trainer.num_nodes, config.trainer.accumulate)
    model.name_attributes(data.store.attribute_names)
    model.original_values = data.store.original_values
    shape = data.store.images.shape[1:]
    if model.image_shape != shape:
        theirs, own = ("×".join(map(str, numbers)) for numbers in (shape, model.image_shape))
        raise ZooError(
            f"The images of data={config.data.name} are {theirs}, but this model's {own}; set data.image_size={own.split('×')[1]}."
        )
    return data
