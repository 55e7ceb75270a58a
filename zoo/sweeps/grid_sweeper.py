"""Hydra's sweeper for grids: `python -m zoo.train -m model=ae,vae seed=0,1,2`.

Hydra imports this module for every command, so it must be light.
"""

import itertools
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from zoo.errors import ZooError


class GridSweeper(Sweeper):
    """All combinations of the values that the command line lists. Writes nothing itself.

    Args:
        params: More settings, {name: values}; they vary slowest, and the command line goes first.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Launches all jobs at once; returns what the launcher does, in a list. Raises ZooError."""
        choices: dict[str, list[str]] = {}  # each setting's overrides
        for override in self.parser.parse_overrides([*(f"{key}={values}" for key, values in self.params.items()), *arguments]):
            if not override.is_sweep_override():
                values = [override.get_value_element_as_str()]
            elif override.is_discrete_sweep():
                values = [*override.sweep_string_iterator()]
            else:
                raise ZooError(f"'{override.input_line}' is a range to search in; list values, or search by hydra/sweeper=optuna.")
            key = override.get_key_element()
            choices[key] = [f"{key}={value}" for value in values]
        batch = [list(job) for job in itertools.product(*choices.values())]
        for position, job in enumerate(batch):
            if job in batch[:position]:
                raise ZooError(f"Two jobs would be alike: {' '.join(job)}; list each value once.")
        assert self.launcher is not None
        return [self.launcher.launch(batch, initial_job_idx=0)]
