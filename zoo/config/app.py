"""Runs a command under Hydra. A user's mistake becomes one sentence on stderr and exit code 2; no traceback, nothing half-written."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zoo.config.instantiate import conf_dir, take_trusted
from zoo.config.messages import user_errors
from zoo.errors import ZooError

# Groups, and nodes of classes, to whose arguments `+key=value` may add.
OPEN = ("hydra", "experiment", "model.", "optimizer.", "scheduler.", "data.source.", "callbacks.", "logger.")


def run_command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Composes the configuration `config_name` with the command line's overrides and calls `task` with it."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and exiting

    def guarded(config: DictConfig) -> Any:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            with user_errors(config_name):
                take_trusted(config)
                return task(config)
        except SystemExit:
            remove_if_empty(folder)
            raise

    with user_errors(config_name):
        refuse_new_keys(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(guarded)()


def remove_if_empty(folder: Path) -> None:
    """Removes the run's folder that Hydra made, and the ones it lies in, as far as they are below this one and empty."""
    here = Path.cwd()
    for path in (folder, *folder.parents):
        if path == here or (here not in path.parents and path != folder):
            return
        try:
            path.rmdir()
        except OSError:
            return


def refuse_new_keys(overrides: list[str]) -> None:
    """`+key=value` would add a setting that nothing reads, unless it is an argument of a class; a group is no value. Raises ZooError."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if value == "null" and (conf_dir() / key).is_dir():
            choices = sorted(path.stem for path in (conf_dir() / key).glob("*.yaml"))
            raise ZooError(f"{override} names none of the files in conf/{key}; take one of {', '.join(choices)}, or leave it out.")
        if override.startswith("+") and not key.startswith(OPEN):
            raise ZooError(f"'{override}' would add a setting that nothing reads; settings exist already, so write it without the plus.")
