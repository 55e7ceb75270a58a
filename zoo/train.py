"""Trains one model on one data set.

    python -m zoo.train                                        # a VAE on the embedded faces
    python -m zoo.train model=ae data=mnist data.root=DIR
    python -m zoo.train data=celeba data.root=DIR trainer=ddp  # 8 GPUs
    python -m zoo.train resume=latest

A run leaves config.yaml, metrics.csv, summary.json, checkpoints/ and pictures/ in runs/<date>/<time>-<model>-<data>/.
"""

import logging
import secrets
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EMAWeightAveraging

from zoo.callbacks.checkpoints import PeriodicCheckpoint
from zoo.callbacks.monitor import Monitor
from zoo.callbacks.progress import ProgressLine
from zoo.callbacks.signals import StopOnSignal
from zoo.callbacks.watch import Watch
from zoo.data.module import DataModule
from zoo.engine import checkpoint, devices, report
from zoo.engine.cli import run_verb, sentences
from zoo.engine.config import build, build_model
from zoo.engine.load import fit_weights
from zoo.engine.loggers import CsvLog, build_loggers, close_loggers
from zoo.engine.resume import point_hydra_at_run, resumed_config
from zoo.errors import ZooError
from zoo.models.base import Autoencoder, Recipe, check_output_range


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
    accelerator, count, precision = devices.resolve(config.trainer)
    if accelerator == "cpu":
        devices.keep_freed_memory()
    check_sizes(config, count * config.trainer.num_nodes)

    pl.seed_everything(config.seed, verbose=False)
    data = data_of(config)
    data.check()  # data and settings are read, or refused, before anything is written
    model = model_of(config, precision)
    if config.logger.get("id", "") is None:
        config.logger.id = secrets.token_hex(4)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    model.provenance = {"format": checkpoint.FORMAT, "config": settings, "versions": report.versions()}

    tenth = max(1, config.budget // 10)
    monitor, watch = Monitor(config.log_every or max(1, config.budget // 200)), Watch(run, config.watch_every or tenth)
    averaging = [EMAWeightAveraging(decay=config.ema)] if config.ema else []
    stop = StopOnSignal()
    saver = PeriodicCheckpoint(run, config.checkpoint_every or tenth, config.keep_checkpoints, stop)
    callbacks = [*averaging, monitor, watch, ProgressLine(monitor, config.budget), stop, saver]

    start = None
    if resuming:
        start, state = checkpoint.newest_good(run)
        fit_weights(model, state, start)
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
    if resuming:
        next(logger for logger in loggers if isinstance(logger, CsvLog)).rewind(images_seen)

    trainer: Any = devices.build_trainer(config.trainer, run, config.budget // config.batch_size, callbacks, loggers)
    try:
        trainer.fit(model, data, ckpt_path=start, weights_only=True)
        if trainer.is_global_zero:
            report.write_summary(run, trainer, model, monitor, watch, settings)
    finally:
        close_loggers(loggers)
    failed = trainer.strategy.checkpoint_io.failed
    if failed:
        raise ZooError(failed)


def check_sizes(config: DictConfig, ranks: int) -> None:
    """Raises ZooError if the batch cannot be divided or the budget is less than one batch."""
    pieces = ranks * config.trainer.accumulate
    if config.batch_size < 1 or config.batch_size % pieces:
        raise ZooError(
            f"batch_size={config.batch_size} cannot be divided over {ranks} devices × {config.trainer.accumulate} pieces; "
            f"make it a multiple of {pieces}."
        )
    if config.budget < config.batch_size:
        raise ZooError(f"budget={config.budget} images is less than one batch of {config.batch_size}; raise budget or lower batch_size.")


def data_of(config: DictConfig) -> DataModule:
    """The data module of a configuration."""
    data = config.data
    options = {name: data[name] for name in ("cache", "storage", "flip", "skip_bad", "limit", "domain")}
    return DataModule(build(data.source), config.batch_size, seed=config.seed, **options)


def model_of(config: DictConfig, precision: str) -> Autoencoder:
    """The model of a configuration with its recipe, ready for the Trainer."""
    model = build_model(config.model)
    fused = {"fused": True} if precision != "16-mixed" else {}  # a fused step cannot be clipped under the fp16 scaler
    model.recipe = Recipe(
        batch_size=config.batch_size,
        budget=config.budget,
        optimizer=build({**config.optimizer, "_partial_": True}, **fused),
        schedule=build(config.scheduler),
        clip=config.clip,
        seed=config.seed,
        compile=config.compile,
    )
    check_output_range(model)
    model.configure_optimizers()  # refuses unknown players now rather than after the run's folder is written
    return model.to(memory_format=torch.channels_last) if config.trainer.channels_last else model


if __name__ == "__main__":
    main()
