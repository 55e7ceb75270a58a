"""Trains one model on one data set.

    python -m zoo.train                                        # a VAE on the embedded faces
    python -m zoo.train model=ae data=mnist data.root=DIR
    python -m zoo.train model=gan pretrain.run=RUN             # without: its VAE is trained first
    python -m zoo.train data=celeba data.root=DIR trainer=ddp  # 8 GPUs
    python -m zoo.train resume=latest

A run leaves config.yaml, metrics.csv, summary.json, checkpoints/ and pictures/ in runs/<date>/<time>-<model>-<data>/, and what was trained
first in pretrain/ therein.
"""

import logging
import secrets
import warnings
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zoo.callbacks.signals import StopOnSignal
from zoo.engine import devices
from zoo.engine.cli import run_verb, sentences
from zoo.engine.resume import point_hydra_at_run, resumed_config
from zoo.engine.settings import settle
from zoo.engine.stages import FOLDER, stages_of
from zoo.engine.training import train_stage
from zoo.errors import ZooError


def main() -> None:
    """The command line's entry."""
    with sentences("train"):
        point_hydra_at_run()
    run_verb(train, "train")


def train(config: DictConfig) -> None:
    """Trains as configured, stage by stage; on every rank of a DDP run."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    run, overrides = Path(HydraConfig.get().runtime.output_dir), list(HydraConfig.get().overrides.task)
    resuming = config.resume is not None
    if resuming:
        config = resumed_config(run, overrides, config)
    elif devices.is_first_process() and any((folder / "config.yaml").exists() for folder in (run, run / FOLDER)):
        raise ZooError(f"{run} already holds a run; go on with it by resume={run}, or set another hydra.run.dir.")
    settle(config)
    if config.trainer.accelerator == "cpu":
        devices.keep_freed_memory()
    if config.logger.get("id", "") is None:
        config.logger.id = secrets.token_hex(4)

    stop = StopOnSignal()
    for stage in stages_of(config, run, resuming):
        train_stage(stage, overrides, stop)


if __name__ == "__main__":
    main()
