"""The launchers and sweepers of zoo/sweeps, under the package name that Hydra insists on: it refuses classes of any other.

Hydra imports this for every command, so what is heavy is imported where it is used.
"""

from zoo.sweeps import optuna_sweeper, plugins


class LocalLauncher(plugins.LocalLauncher):
    """See zoo.sweeps.plugins.LocalLauncher."""


class SlurmLauncher(plugins.SlurmLauncher):
    """See zoo.sweeps.plugins.SlurmLauncher."""


class GridSweeper(plugins.GridSweeper):
    """See zoo.sweeps.plugins.GridSweeper."""


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """See zoo.sweeps.optuna_sweeper.OptunaSweeper."""
