"""From the settings of a run to its data and its model."""

import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import get_class

from zoo.config.instantiate import build, check_target
from zoo.config.schema import ResolvedSettings, TrainSettings
from zoo.data.module import DataModule
from zoo.data.source import Source
from zoo.errors import ZooError
from zoo.models.base import Autoencoder, evaluation_mode
from zoo.models.training_config import TrainingConfig

VALIDATED = 10_000  # images of the validation split, at most, whenever a model is validated while it trains


def build_model(node: dict[str, Any]) -> Any:
    """The model of a `model` node; its `name`, and those of autoencoders inside it, are for folders and tables."""
    return build(without_names(node))


def without_names(node: Any) -> Any:
    """A `model` node without its `name` and those of autoencoders inside it, however deep."""
    if not isinstance(node, dict):
        return node
    return {key: without_names(value) if key == "autoencoder" else value for key, value in node.items() if key != "name"}


def build_source(node: dict[str, Any]) -> Source:
    """The data set of a `data.source` node. Raises ZooError if it is none, or lacks what the store asks for."""
    source = build(node)
    if not isinstance(source, Source):
        hint = "train with your own Trainer (see README.md)" if isinstance(source, pl.LightningDataModule) else "see conf/data/custom.yaml"
        raise ZooError(f"data.source._target_={node['_target_']} is no subclass of zoo.data.source.Source; {hint}.")
    if lacking := [name for name in ("name", "image_size", "channels", "attribute_names") if not hasattr(source, name)]:
        raise ZooError(f"data.source._target_={node['_target_']} has no {lacking[0]}; zoo/data/source.py says what a source has.")
    return source


def build_data(settings: TrainSettings) -> DataModule:
    """The data module of a run."""
    data = settings.data
    return DataModule(
        source=build_source(data.source),
        batch_size=settings.batch_size,
        cache=data.cache,
        seed=settings.seed,
        storage=data.storage,
        flip=data.flip,
        skip_bad=data.skip_bad,
        limit=data.limit,
        domain=None if data.domain is None else str(data.domain),
        val_images=VALIDATED,
    )


def build_trainable(settings: ResolvedSettings) -> Autoencoder:
    """The model of resolved settings with its TrainingConfig, ready for the Trainer. Raises ZooError."""
    model = build_model(settings.model)
    if not isinstance(model, Autoencoder):
        target = settings.model["_target_"]
        raise ZooError(f"model._target_={target} is no model: it must be a subclass of zoo.models.Autoencoder (see CONTRIBUTING.md).")
    optimizer, scheduler = settings.optimizer.model_dump(), settings.scheduler.model_dump(exclude_unset=True)
    of_torch = scheduler["_target_"].startswith("torch.optim.lr_scheduler.")
    # A fused step cannot be clipped under the fp16 scaler, and not every optimizer has one.
    check_target(optimizer["_target_"])
    has_fused = "fused" in inspect.signature(get_class(optimizer["_target_"])).parameters
    fused = {"fused": True} if settings.trainer.precision != "16-mixed" and has_fused else {}
    model.training_config = TrainingConfig(
        batch_size=settings.batch_size,
        max_images=settings.max_images,
        optimizer=build(optimizer | {"_partial_": True}, **fused),
        schedule=None if of_torch else build(scheduler),
        scheduler=torch_scheduler(scheduler) if of_torch else None,
        group_schedules={name: options.pop("scheduler") for name, options in model.group_options.items() if "scheduler" in options},
        seed=settings.seed,
        compile=settings.compile,
    )
    if settings.batch_size % (settings.micro_batches * model.batch_multiple):
        raise ZooError(
            f"{type(model).__name__} takes images in groups of {model.batch_multiple}, but batch_size={settings.batch_size} leaves "
            f"{settings.batch_size // settings.micro_batches} to each device or piece of it; "
            f"make it a multiple of {settings.micro_batches * model.batch_multiple}."
        )
    check_output_range(model)
    try:
        model.build_optimizer()  # refuses unknown parameter groups and options now rather than after the run's folder is written
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZooError(f"The optimizer {optimizer['_target_']} does not take these settings ({error}); see conf/optimizer.") from None
    try:
        model.configure_optimizers()
    except (TypeError, ValueError, KeyError) as error:
        raise ZooError(f"The scheduler {scheduler['_target_']} does not take these settings ({error}); see conf/scheduler.") from None
    return model.to(memory_format=torch.channels_last) if settings.channels_last else model


def torch_scheduler(node: dict[str, Any]) -> Callable[[torch.optim.Optimizer], Any]:
    """Makes a scheduler of torch of the optimizer; those in its list `schedulers` are made first. Raises ZooError."""
    inner = [torch_scheduler(one) for one in node.get("schedulers", ())]
    own = build({name: value for name, value in node.items() if name != "schedulers"} | {"_partial_": True})
    if not inner:
        return own
    return lambda optimizer: own(optimizer, schedulers=[make(optimizer) for make in inner])


def check_output_range(model: Autoencoder) -> None:
    """Raises ZooError if the decoder cannot make dark pixels: images live in [-1, 1], a sigmoid stays in [0, 1]."""
    with evaluation_mode(model):  # BatchNorm must not learn from noise
        generator = torch.Generator().manual_seed(0)
        wild = 1e5 * torch.randn(64, model.latent_dim, generator=generator).to(model.device)  # fresh weights hardly answer to less
        lowest = model.decode(wild).min().item()
    if lowest >= 0:
        raise ZooError(
            f"The decoder of {type(model).__name__} never goes below 0, but images are in [-1, 1]; "
            f"end it with tanh or a linear layer, not a sigmoid."
        )
