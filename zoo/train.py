"""Trains one model on one data set.

    python -m zoo.train                                        # a VAE on the embedded faces
    python -m zoo.train model=ae data=mnist data.root=DIR
    python -m zoo.train data=celeba data.root=DIR trainer=ddp  # 8 GPUs
    python -m zoo.train resume=latest

A run leaves config.yaml, metrics.csv, summary.json, checkpoints/ and pictures/ in runs/<date>/<time>-<model>-<data>/.
"""

import logging
import secrets
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EMAWeightAveraging

from zoo.callbacks.checkpoints import PeriodicCheckpoint
from zoo.callbacks.monitor import Monitor
from zoo.callbacks.progress import ProgressLine
from zoo.callbacks.signals import StopOnSignal
from zoo.callbacks.watch import Watch
from zoo.engine import checkpoint, devices, report
from zoo.engine.cli import run_verb, sentences
from zoo.engine.load import fit_weights
from zoo.engine.loggers import CsvLog, build_loggers, close_loggers
from zoo.engine.resume import point_hydra_at_run, resumed_config
from zoo.engine.settings import data_of, model_of, settle
from zoo.errors import ZooError


def main() -> None:
    """The command line's entry."""
    with sentences("train"):
        point_hydra_at_run()
    run_verb(train, "train")


def train(config: DictConfig) -> None:
    """Trains as configured; on every rank of a DDP run."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    run = Path(HydraConfig.get().runtime.output_dir)
    resuming = config.resume is not None
    if resuming:
        config = resumed_config(run, list(HydraConfig.get().overrides.task))
    elif (run / "config.yaml").exists() and devices.is_first_process():
        raise ZooError(f"{run} already holds a run; go on with it by resume={run}, or set another hydra.run.dir.")
    settle(config)
    if config.trainer.accelerator == "cpu":
        devices.keep_freed_memory()

    pl.seed_everything(config.seed, verbose=False)
    model, data = model_of(config), data_of(config)
    # Data and settings are read, or refused, before anything is written.
    data.check(config.trainer.devices * config.trainer.num_nodes, config.trainer.accumulate)
    if config.logger.get("id", "") is None:
        config.logger.id = secrets.token_hex(4)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    command = shlex.join(["python", "-m", "zoo.train", *HydraConfig.get().overrides.task])
    model.provenance = {"format": checkpoint.FORMAT, "config": settings, "versions": report.versions(), "command": command}

    monitor, watch = Monitor(config.log_every), Watch(run, config.watch_every, config.evaluation.samples, config.evaluation.metrics)
    averaging = [EMAWeightAveraging(decay=config.ema)] if config.ema else []
    stop = StopOnSignal()
    saver = PeriodicCheckpoint(run, config.checkpoint_every, config.keep_checkpoints, stop)
    callbacks = [*averaging, monitor, ProgressLine(monitor, config.budget), watch, stop, saver]  # the bar ends before the evaluation

    start = None
    if resuming:
        start, state = checkpoint.newest_good(run)
        fit_weights(model, state, start)
        changed = [override for override in HydraConfig.get().overrides.task if not override.startswith("resume=")]
        began = state["zoo"].get("command", "unknown")
        model.provenance["command"] = f"{began}; then resume=RUN {shlex.join(changed)}" if changed else began
        images_seen = int(start.stem)
        if images_seen // config.batch_size >= config.budget // config.batch_size:
            print(f"This run has reached its budget of {config.budget:,} images; give a larger budget to train it further.")
    else:
        report.print_tree(settings)
        report.print_model(model)
    loggers = build_loggers(config.logger, run, settings)
    if devices.is_first_process():
        run.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(settings), run / "config.yaml")
        checkpoint.remove_leftovers(run)
    if resuming:
        next(logger for logger in loggers if isinstance(logger, CsvLog)).rewind(images_seen)

    trainer: Any = devices.build_trainer(config.trainer, run, config.budget // config.batch_size, callbacks, loggers)
    try:
        trainer.fit(model, data, ckpt_path=start, weights_only=True)
        if trainer.is_global_zero:
            seen = trainer.global_step * config.batch_size
            report.write_summary(run, settings, model, watch.latest, seen, monitor.train_seconds, watch.peak_memory_mib)
    finally:
        close_loggers(loggers)
    failed = trainer.strategy.checkpoint_io.failed
    if failed:
        raise ZooError(failed)


if __name__ == "__main__":
    main()
