"""Trains one model on one data set.

    python -m zoo.train                                        # a VAE on the embedded faces
    python -m zoo.train model=ae data=mnist data.root=DIR
    python -m zoo.train model=gan pretrain.run=RUN             # without: its VAE is trained first
    python -m zoo.train data=celeba data.root=DIR trainer=ddp  # 8 GPUs
    python -m zoo.train resume=latest
    python -m zoo.train -m model=ae,vae seed=0,1,2             # a sweep; started again, it goes on

A run leaves config.yaml, metrics.csv, summary.json, checkpoints/ and pictures/ in runs/<date>/<time>-<model>-<data>/, and what was trained
first in pretrain/ therein. A sweep's runs lie in runs/sweeps/<date>/<time>/.
"""

import logging
import os
import secrets
import signal
import warnings
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from zoo import hardware
from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.messages import user_errors
from zoo.errors import ZooError
from zoo.runs.layout import CONFIG, PRETRAIN
from zoo.runs.wandb_files import shown_path, wandb_node
from zoo.sweeps.command_line import point_hydra_at_sweep
from zoo.sweeps.jobs import finalize_sweep
from zoo.sweeps.processes import die_with_parent
from zoo.training.resume import point_hydra_at_run, resumed_settings


def main() -> None:
    """The command line's entry."""
    if os.environ.get("LOCAL_RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" not in os.environ:
        die_with_parent(signal.SIGKILL)  # which is rank 0: nothing of the run is left to do without it
    with user_errors("train"):
        point_hydra_at_run()
        folder = point_hydra_at_sweep()
    run_command(train, "train")
    if folder:
        with user_errors("train"):
            code = finalize_sweep(folder)
        raise SystemExit(code)


def train(config: DictConfig) -> None:
    """Trains as configured, stage by stage; on every rank of a DDP run."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ZooError("This launcher runs all jobs in one process; use hydra/launcher=local, gpus, cpus or slurm.")
    run, overrides = Path(HydraConfig.get().runtime.output_dir), list(HydraConfig.get().overrides.task)
    resuming = config.resume is not None
    if not resuming and hardware.is_rank_zero() and any((folder / CONFIG).exists() for folder in (run, run / PRETRAIN)):
        raise ZooError(f"{run} already holds a run; go on with it by resume={run}, or set another hydra.run.dir.")
    pretrained = not resuming and config.pretrain.run is not None  # by a run that decides some settings
    if not pretrained:
        settings = resumed_settings(run, overrides, config) if resuming else check(config)
        config.model.name, config.data.name = settings.model["name"], settings.data.name
    if hardware.is_rank_zero():
        print(f"{config.model.name} on {config.data.name}, in {shown_path(run)}/", flush=True)

    # torch and what is built on it: seconds of imports, which a mistake in a setting need not wait for
    from zoo.callbacks.stop_on_signal import StopOnSignal
    from zoo.training.fit import train_stage
    from zoo.training.resolve import resolve_config
    from zoo.training.stages import open_pretrained, stages_of

    warnings.filterwarnings("ignore", module="pytorch_lightning|torch")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    earlier = open_pretrained(config) if pretrained else None
    if pretrained:
        settings = check(config)
    settings = resolve_config(settings, overrides)
    if settings.trainer.accelerator == "cpu":
        hardware.keep_freed_memory()
    if (wandb := wandb_node(settings.logger)) and wandb.get("id") is None:
        wandb["id"] = secrets.token_hex(4)

    stop = StopOnSignal()
    for stage in stages_of(settings, run, resuming, earlier):
        train_stage(stage, overrides, stop)


if __name__ == "__main__":
    main()
