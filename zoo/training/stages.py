"""The stages of a run: what is trained first, on which part of the budget, and where a stopped run goes on.

A model's configuration may name a `pretrain` stage. With `pretrain.run` the model starts from that run; otherwise `pretrain.model` is
trained first, as a complete run of its own in RUN/pretrain/, with all other settings of the run. `budget` counts the images of both.
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo import hardware
from zoo.errors import ZooError
from zoo.runs import checkpoint
from zoo.runs.build import model_of
from zoo.runs.files import FOLDER, save_settings
from zoo.runs.load import open_run
from zoo.runs.wandb_files import shown_path
from zoo.training.fit import Stage, checked_data
from zoo.training.resolve import settle


def stages_of(config: DictConfig, run: Path, resuming: bool) -> Iterator[Stage]:
    """What is still to be trained, in order; the second stage is opened when the first one is over.

    Args:
        config: Settled settings of the whole run.
        run: Its folder.
        resuming: Whether this run was stopped.

    Raises:
        ZooError: The second stage cannot start from the first, or the budget is too small for both; before anything is written.
    """
    given = OmegaConf.select(config, "pretrain.run")
    here = given is None and OmegaConf.select(config, "pretrain.model") is not None
    if resuming and (checkpoint.all_of(run) or not here):
        yield Stage(config, run, run, resuming=True)
    elif here:
        folder = run / FOLDER
        first = first_stage(config, folder, resuming)
        if not resuming:
            check(config, first)
            save_settings(config, run)
        if hardware.is_first_process():
            size = f"{first.budget:,} of {config.budget:,} images"
            print(f"First of two stages: {first.model.name}, {size}, in {shown_path(folder)}/", flush=True)
        yield Stage(first, folder, run, resuming)
        gc.collect()  # what the first stage held on the device is free for the second
        yield Stage(config, run, run, earlier=open_run(folder))
    else:
        earlier = None if given is None else open_run(given, option="pretrain.run")
        if earlier is not None and "autoencoder" in config.model:  # whatever was trained there is the autoencoder
            config.model.autoencoder, config.model.latent_dim = earlier.config.model, earlier.model.latent_dim
        yield Stage(config, run, run, earlier=earlier)


def first_stage(config: DictConfig, folder: Path, resuming: bool) -> DictConfig:
    """Settings of the stage that is trained in `folder`: the run's, with another model and a part of the budget. Raises ZooError.

    Once begun it keeps its length, whatever budget a resumed run is given.
    """
    share, batch, batches = config.pretrain.share, config.batch_size, config.budget // config.batch_size
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise ZooError(f"pretrain.share={share} must be a number above 0 and below 1: a part of the budget.")
    first: Any = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    first.model, first.pretrain = first.pretrain.model, {"run": None}
    first.budget = batch * max(1, min(round(share * batches), batches - 1))
    if resuming and (folder / "config.yaml").is_file():
        first.budget = OmegaConf.load(folder / "config.yaml").budget
    if config.budget - first.budget < batch:
        raise ZooError(f"budget={config.budget} is too small for two stages; it must be at least {first.budget + batch} images.")
    first.evaluation.samples = 0
    if "id" in first.logger:
        first.logger.name, first.logger.id = f"{first.logger.name}-{FOLDER}", f"{first.logger.id}-{FOLDER}"
        first.logger.job_type = FOLDER
    settle(first)
    return first


def check(config: DictConfig, first: DictConfig) -> None:
    """Tries with untrained models whether the second stage can start from the first. Raises ZooError."""
    model = model_of(config)
    model.start_from(model_of(first))
    checked_data(config, model)
