"""Hydra's sweeper for grids: `python -m zoo.train -m model=ae,vae seed=0,1,2`.

Hydra imports this module for every command, so it must be light.
"""

import itertools
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from zoo.errors import ZooError


class ParamsSweeper(Sweeper):
    """A sweeper of what `params`, {name: values}, and the command line list; the command line goes first."""

    params: dict[str, str]
    config: Any  # set by `setup`

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config: Any = config
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        plugins = Plugins.instance()
        self.launcher: Any = plugins.instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def overrides(self, arguments: list[str]) -> dict[str, Override]:
        """The overrides of `params` and of the command line, by their keys."""
        parsed = self.parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        return {override.get_key_element(): override for override in parsed}


class GridSweeper(ParamsSweeper):
    """All combinations of the values. Writes nothing itself."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}

    def sweep(self, arguments: list[str]) -> Any:
        """Launches all jobs at once; returns what the launcher does, in a list. Raises ZooError."""
        choices = []  # each setting's overrides
        for key, override in self.overrides(arguments).items():
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ZooError(f"'{override.input_line}' is a range to search in; list values, or search by hydra/sweeper=optuna.")
            values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
            choices.append([f"{key}={value}" for value in values])
        batch = [list(job) for job in itertools.product(*choices)]
        for position, job in enumerate(batch):
            if job in batch[:position]:
                raise ZooError(f"Two jobs would be alike: {' '.join(job)}; list each value once.")
        return [self.launcher.launch(batch, initial_job_idx=0)]
