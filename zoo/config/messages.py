"""Sentences for mistakes: one on stderr, and exit code 2, instead of a traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from zoo.config.check import NO_DATA_ROOT
from zoo.config.instantiate import conf_dir
from zoo.errors import ZooError, nearest

MISTAKES = (ZooError, HydraException, OmegaConfBaseException)  # a user's
# What settings are called elsewhere.
NEIGHBOURS = {
    **dict.fromkeys(("epochs", "epoch", "num_epochs", "n_epochs"), "use max_images=N, or trainer.max_epochs=N"),
    **dict.fromkeys(("steps", "num_steps", "iterations"), "use max_images=N, or trainer.max_steps=N"),
    **dict.fromkeys(("lr", "learning_rate"), "use optimizer.lr=X"),
    **dict.fromkeys(("gpus", "gpu", "num_gpus"), "use trainer.devices=N"),
    **dict.fromkeys(("num_workers", "workers"), "the zoo reads whole batches from a packed store, without worker processes"),
    **dict.fromkeys(("bs", "batch"), "use batch_size=N: images of a step over all devices"),
    **dict.fromkeys(("dataset", "data_dir", "root"), "use data=NAME data.root=DIR"),
    **dict.fromkeys(("z_dim", "latent_size", "nz"), "use model.latent_dim=N"),
    **dict.fromkeys(("wandb", "tensorboard"), "use logger=wandb, tensorboard or none"),
    **{name: f"use logger.wandb.{name}=X" for name in ("name", "project", "entity", "group", "tags")},
    **dict.fromkeys(("ckpt_path", "checkpoint"), "use resume=RUN to go on with a run, pretrain.run=RUN to start from one"),
    "clip": "use trainer.gradient_clip_val=X",
    "ema": "use ema_decay=X",
    "device": "use trainer.accelerator=cpu or gpu",
}
# Errors of the file system that are no bug of ours.
UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def user_errors(config_name: str) -> Iterator[None]:
    """Turns a user's mistake inside into one sentence on stderr and exit code 2."""
    try:
        yield
    except MISTAKES as error:
        print_error(explain(error, config_name, sys.argv[1:]))
    except ModuleNotFoundError as error:
        if error.name:  # a bug of ours, or a broken installation
            raise
        print_error(f"A package is not installed: {' '.join(str(error).split())}")  # a library's own sentence
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        print_error(f"{error.filename or 'A file'} cannot be written ({os.strerror(error.errno or 0)}); make room, or set another folder.")
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":  # Lightning's own sentence for arguments that do not fit
            raise
        print_error(" ".join(str(error).split()))
    else:
        return
    raise SystemExit(2)


def print_error(sentence: str) -> None:
    """Prints what is wrong, once: not on the other ranks of a DDP run."""
    rank = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
    if rank == "0":
        print(f"zoo: {sentence}", file=sys.stderr)


def flat_keys(node: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a config, inner nodes included."""
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *flat_keys(value, f"{prefix}{key}.")]
    return keys


def explain(error: Exception, config_name: str, overrides: list[str]) -> str:
    """One sentence for what we, Hydra or OmegaConf refused, with the nearest valid name."""
    text = str(error)
    if isinstance(error, ZooError):
        return text
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        if (error.full_key or "").endswith("root"):
            return NO_DATA_ROOT
        return f"The setting {error.full_key} has no default; give {error.full_key}=…."
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' is not an override; write key=value, and quote values with spaces or special characters."
    if isinstance(error, MissingConfigException) and (found := re.search(r"Could not find '([^']+)/([^'/]+)'", text)):
        group, choice = found.groups()
        folder = conf_dir() / group
        choices = sorted(path.stem for path in folder.glob("*.yaml"))
        return f"There is no {group} '{choice}'; {nearest(choice, choices).rstrip('.')} (choices: {', '.join(choices)})."
    if isinstance(error, ConfigCompositionException) and (found := re.search(r"Could not override '([^']+)'", text)):
        key = found.group(1).split("@")[0]
        others = [o for o in overrides if "=" in o and not o.startswith("-") and o.partition("=")[0].lstrip("+~") != key]
        valid = valid_keys(config_name, others)
        if key in valid:
            return f"'{key}' cannot be replaced as a whole; set one of its entries, as {key}.name=value (+{key}.name=value for a new one)."
        return f"There is no setting '{key}'; {nearest_setting(key, valid)}"
    return " ".join(text.split())


def nearest_setting(key: str, valid: list[str]) -> str:
    """The end of a sentence on an unknown setting: what it is called here, or where to find all."""
    if key in NEIGHBOURS:
        return f"{NEIGHBOURS[key]}."
    inside = sorted((name for name in valid if name.endswith(f".{key}")), key=lambda name: name.count("."))
    if inside:
        return f"did you mean '{inside[0]}'?"
    close = nearest(key, valid)
    return close if close.endswith("?") else "--cfg job shows all settings."


def valid_keys(config_name: str, overrides: list[str]) -> list[str]:
    """The settings of a configuration, as far as the other overrides can be composed."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            config = hydra.compose(config_name, overrides)
        except HydraException:
            config = hydra.compose(config_name)
    return flat_keys(OmegaConf.to_container(config))
