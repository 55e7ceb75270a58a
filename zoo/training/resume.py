"""Going on with a stopped run: which run, which settings, which checkpoint."""

import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo.config.check import check
from zoo.config.overrides import is_flag, quoted, runs_folder, unquoted
from zoo.config.schema import TrainSettings
from zoo.errors import ZooError
from zoo.hardware import external_world_size
from zoo.runs.find import find_run
from zoo.runs.layout import read_config

CHANGEABLE = (
    *("max_images", "keep_last_k", "compile", "data.cache", "data.storage", "logger.", "callbacks."),
    *("trainer.devices", "trainer.accelerator", "trainer.num_nodes"),  # not accumulate_grad_batches: Lightning counts pieces of batches
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.profiler", "trainer.enable_progress_bar"),
)


def point_hydra_at_run(argv: list[str] | None = None) -> None:
    """If the command line resumes a run, its folder becomes Hydra's output folder; the processes of other ranks inherit both.

    `pretrain.run=latest` becomes a folder, too: later the latest run is the one that begins now. Raises ZooError where several processes,
    started by torchrun or srun, would each make a folder of their own.
    """
    argv = sys.argv if argv is None else argv
    for position, argument in enumerate(argv):
        if argument.startswith("resume=") and argument not in ("resume=null", "resume="):
            run = find_run(unquoted(argument), runs_folder(argv))
            argv[position] = f"resume={quoted(run)}"
            if not any(other.startswith("hydra.run.dir=") for other in argv):
                argv.append(f"hydra.run.dir={quoted(run)}")
        elif argument == "pretrain.run=latest":
            argv[position] = f"pretrain.run={quoted(find_run('latest', runs_folder(argv), 'pretrain.run'))}"
    if external_world_size() < 2:
        return
    if any(is_flag(argument) for argument in argv):  # inside an allocation of Slurm that is fine
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise ZooError("A sweep starts all processes of its jobs itself; start it by python -m zoo.train -m …, not by torchrun.")
    elif not any(argument.startswith("hydra.run.dir=") for argument in argv):
        raise ZooError("The processes that torchrun or srun starts must share one folder; give hydra.run.dir=DIR (or resume=RUN).")


def resumed_settings(run: Path, overrides: list[str], defaults: DictConfig | None = None) -> TrainSettings:
    """The run's own configuration, with the few overrides that keep its data order, noise and objective. Raises ZooError for any other.

    A larger max_images stretches the learning-rate schedule from here on. Settings that are newer than the run take their `defaults`.
    """
    config: Any = OmegaConf.create(read_config(run))
    for key in defaults or ():
        if key not in config:
            config[key] = defaults[key]  # type: ignore[index]
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in ("resume", "trusted", "paths.runs"):
            continue
        if not key.startswith(CHANGEABLE) or (OmegaConf.select(config, key) is None and "." not in key):
            raise ZooError(
                f"A resumed run keeps its settings, so '{override}' cannot be given; what may change: "
                f"{', '.join(name + '*' if name.endswith('.') else name for name in CHANGEABLE)}."
            )
        if isinstance(OmegaConf.select(config, key), DictConfig):
            raise ZooError(f"A resumed run keeps its groups, so '{override}' cannot be given; change one setting, like trainer.devices=2.")
        OmegaConf.update(config, key, OmegaConf.from_dotlist([f"value={value}"]).value)
    return check(config)
