"""The launchers and sweepers of zoo/sweeps, under the package name that Hydra insists on: it refuses classes of any other.

Hydra imports this for every command, so what is heavy is imported where it is used.
"""

from zoo.sweeps import grid_sweeper, launcher, optuna_sweeper


class LocalLauncher(launcher.LocalLauncher):
    """See zoo.sweeps.launcher.LocalLauncher."""


class SlurmLauncher(launcher.SlurmLauncher):
    """See zoo.sweeps.launcher.SlurmLauncher."""


class GridSweeper(grid_sweeper.GridSweeper):
    """See zoo.sweeps.grid_sweeper.GridSweeper."""


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """See zoo.sweeps.optuna_sweeper.OptunaSweeper."""
