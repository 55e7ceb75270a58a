"""From the settings of a run to its data and its model."""

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from zoo.config.instantiate import build
from zoo.data.module import DataModule
from zoo.errors import ZooError
from zoo.models.base import Autoencoder, Recipe, check_output_range


def build_model(node: Any) -> Any:
    """The model of a `model` node; its `name`, and those of autoencoders inside it, are for folders and tables."""
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    return build(without_names(plain))


def without_names(node: Any) -> Any:
    """A `model` node in plain data without its `name` and those of autoencoders inside it, however deep."""
    if not isinstance(node, dict):
        return node
    return {key: without_names(value) if key == "autoencoder" else value for key, value in node.items() if key != "name"}


def data_of(config: DictConfig) -> DataModule:
    """The data module of a configuration."""
    data = config.data
    options = {name: data[name] for name in ("cache", "storage", "flip", "skip_bad", "limit", "domain")}
    return DataModule(build(data.source), config.batch_size, seed=config.seed, **options)


def model_of(config: DictConfig) -> Autoencoder:
    """The model of settled settings with its recipe, ready for the Trainer."""
    model = build_model(config.model)
    optimizer: Any = OmegaConf.to_container(config.optimizer, resolve=True)
    # A fused step cannot be clipped under the fp16 scaler, and not every optimizer has one.
    fused = {"fused": True} if config.trainer.precision != "16-mixed" and "Adam" in optimizer["_target_"] else {}
    model.recipe = Recipe(
        batch_size=config.batch_size,
        budget=config.budget,
        optimizer=build(optimizer | {"_partial_": True}, **fused),
        schedule=build(config.scheduler),
        player_schedules={name: options.pop("scheduler") for name, options in model.player_options.items() if "scheduler" in options},
        clip=config.clip,
        seed=config.seed,
        compile=config.compile,
    )
    pieces = config.trainer.devices * config.trainer.num_nodes * config.trainer.accumulate
    if config.batch_size % (pieces * model.unit):
        raise ZooError(
            f"{type(model).__name__} takes images in groups of {model.unit}, but batch_size={config.batch_size} leaves "
            f"{config.batch_size // pieces} to each device or piece of it; make it a multiple of {pieces * model.unit}."
        )
    check_output_range(model)
    try:
        model.configure_optimizers()  # refuses unknown players and options now rather than after the run's folder is written
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZooError(f"The optimizer {optimizer['_target_']} does not take these settings ({error}); see conf/optimizer.") from None
    return model.to(memory_format=torch.channels_last) if config.trainer.channels_last else model
