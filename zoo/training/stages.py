"""The stages of a run: what is trained first, on which part of max_images, and where a stopped run goes on.

A model's configuration may name a `pretrain` stage. With `pretrain.run` the model starts from that run; otherwise `pretrain.model` is
trained first, as a complete run of its own in RUN/pretrain/, with all other settings of the run. `max_images` counts the images of both.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from zoo import hardware
from zoo.config.schema import PretrainSettings, ResolvedSettings
from zoo.errors import ZooError
from zoo.runs import checkpoint
from zoo.runs.build import build_trainable
from zoo.runs.layout import CONFIG, PRETRAIN, read_config, write_config
from zoo.runs.load import Run, open_run
from zoo.runs.wandb_files import shown_path, wandb_node
from zoo.training.fit import Stage, checked_data
from zoo.training.resolve import resolve_config


def stages_of(settings: ResolvedSettings, run: Path, resuming: bool, earlier: Run | None) -> Iterator[Stage]:
    """What is still to be trained, in order; the second stage is opened when the first one is over.

    Args:
        settings: Resolved settings of the whole run.
        run: Its folder.
        resuming: Whether this run was stopped.
        earlier: What `pretrain.run` names.

    Raises:
        ZooError: The second stage cannot start from the first, or max_images is too small for both; before anything is written.
    """
    here = settings.pretrain.run is None and settings.pretrain.model is not None
    if resuming and (checkpoint.all_of(run) or not here):
        yield Stage(settings, run, run, resuming=True)
    elif here:
        folder = run / PRETRAIN
        first = first_stage(settings, folder, resuming)
        if not resuming:
            check_second_stage(settings, first)
        if settings.trainer.fast_dev_run:
            yield Stage(first, folder, run)  # of which nothing is left that the second could start from
            return
        if not resuming and hardware.is_rank_zero():
            write_config(settings, run)
        if hardware.is_rank_zero():
            size = f"{first.max_images:,} of {settings.max_images:,} images"
            print(f"First of two stages: {first.model['name']}, {size}, in {shown_path(folder)}/", flush=True)
        yield Stage(first, folder, run, resuming)
        gc.collect()  # what the first stage held on the device is free for the second
        yield Stage(settings, run, run, earlier=open_run(folder))
    else:
        yield Stage(settings, run, run, earlier=earlier)


def open_pretrained(config: DictConfig) -> Run:
    """Opens `pretrain.run` of a composed configuration; what was trained there becomes a model's `autoencoder`.

    Called before interpolations are resolved: other settings read model.latent_dim. Raises ZooError for what is no run.
    """
    earlier = open_run(str(config.pretrain.run), option="pretrain.run")
    if "autoencoder" in config.model:
        config.model.autoencoder, config.model.latent_dim = earlier.settings.model, earlier.model.latent_dim
    return earlier


def first_stage(settings: ResolvedSettings, folder: Path, resuming: bool) -> ResolvedSettings:
    """Settings of the stage that is trained in `folder`: the run's, with another model and a part of max_images. Raises ZooError.

    Once begun it keeps its length, whatever max_images a resumed run is given.
    """
    share, batch, batches = settings.pretrain.share, settings.batch_size, settings.max_images // settings.batch_size
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise ZooError(f"pretrain.share={share} must be a number above 0 and below 1: a part of max_images.")
    first = settings.model_copy(deep=True)
    assert first.pretrain.model is not None
    first.model, first.pretrain = first.pretrain.model, PretrainSettings(run=None)
    first.max_images = batch * max(1, min(round(share * batches), batches - 1))
    if resuming and (folder / CONFIG).is_file():
        first.max_images = read_config(folder)["max_images"]
    if settings.max_images - first.max_images < batch:
        raise ZooError(
            f"max_images={settings.max_images} is too small for two stages; it must be at least {first.max_images + batch} images."
        )
    first.evaluation.samples = 0
    if wandb := wandb_node(first.logger):
        wandb |= {name: f"{wandb.get(name)}-{PRETRAIN}" for name in ("name", "id")} | {"job_type": PRETRAIN}
    return resolve_config(first)


def check_second_stage(settings: ResolvedSettings, first: ResolvedSettings) -> None:
    """Tries with untrained models whether the second stage can start from the first. Raises ZooError."""
    model = build_trainable(settings)
    model.start_from(build_trainable(first))
    checked_data(settings, model)
