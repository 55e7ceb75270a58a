"""From a composed configuration to checked settings, data and model."""

from omegaconf import DictConfig, OmegaConf

from zoo import hardware
from zoo.errors import ZooError
from zoo.evaluation.protocol import selected

WHOLE = {
    "seed": 0,
    "batch_size": 1,
    "budget": 1,
    "keep_checkpoints": 1,
    "evaluation.samples": 0,
    "model.latent_dim": 1,
    "trainer.accumulate": 1,
    "trainer.num_nodes": 1,
}
WHOLE_OR_NULL = {"watch_every": 1, "checkpoint_every": 1, "log_every": 1, "probe_every": 1, "data.limit": 1}
SWITCHES = ("compile", "trainer.deterministic", "trainer.channels_last", "data.flip", "data.skip_bad")
NUMBERS = {"optimizer.lr": (0, None), "scheduler.warmup": (0, 1)}  # from, below
ABOVE_OR_NULL = {"clip": (0, None), "ema": (0, 1)}  # above, below


def settle(config: DictConfig) -> None:
    """Checks the plain settings and writes what `auto` and `null` mean on this machine into them. Raises ZooError."""
    for key, least in (WHOLE | WHOLE_OR_NULL).items():
        if key == "model.latent_dim" and "latent_dim" not in config.model:  # a flow's latent has the image's size
            continue
        value = OmegaConf.select(config, key)
        if not (value is None and key in WHOLE_OR_NULL) and (type(value) is not int or value < least):
            raise ZooError(f"{key}={value} must be a whole number of at least {least}.")
    for key in SWITCHES:
        if not isinstance(OmegaConf.select(config, key), bool):
            raise ZooError(f"{key}={OmegaConf.select(config, key)} must be true or false.")
    for key, (low, high) in (NUMBERS | ABOVE_OR_NULL).items():
        value, strict = OmegaConf.select(config, key), key in ABOVE_OR_NULL
        if value is None and strict:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or value < low or (strict and value == low) or (high is not None and value >= high):
            bound, below = "above" if strict else "of at least", "" if high is None else f" and below {high}"
            raise ZooError(f"{key}={value} must be a number {bound} {low}{below}.")
    if config.compile and OmegaConf.select(config, "model.flow.memory") == "reversible":
        raise ZooError("compile=true cannot follow the backward pass of model.flow.memory=reversible; set it to checkpoint or plain.")
    config.evaluation.metrics = selected(config.evaluation.metrics, "evaluation.metrics")
    accelerator, count, precision = hardware.resolve(config.trainer)
    config.trainer.accelerator, config.trainer.devices, config.trainer.precision = accelerator, count, precision
    ranks, pieces = count * config.trainer.num_nodes, count * config.trainer.num_nodes * config.trainer.accumulate
    if config.batch_size % pieces:
        raise ZooError(
            f"batch_size={config.batch_size} cannot be divided over {ranks} devices × {config.trainer.accumulate} pieces; "
            f"make it a multiple of {pieces}."
        )
    if config.budget < config.batch_size:
        raise ZooError(f"budget={config.budget} images is less than one batch of {config.batch_size}; raise budget or lower batch_size.")
    for key, share in (("watch_every", 10), ("checkpoint_every", 10), ("log_every", 200)):
        config[key] = config[key] or max(1, config.budget // share)
