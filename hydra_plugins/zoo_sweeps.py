"""The launchers and sweepers of zoo/sweeps, under the package name that Hydra insists on: it refuses classes of any other.

Hydra imports this for every command, so what is heavy is imported where it is used.
"""

from zoo.sweeps import launcher, optuna_sweeper, slurm


class Grid(launcher.Grid):
    """See zoo.sweeps.launcher.Grid."""


class Pool(launcher.Pool):
    """See zoo.sweeps.launcher.Pool."""


class Slurm(slurm.Slurm):
    """See zoo.sweeps.slurm.Slurm."""


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """See zoo.sweeps.optuna_sweeper.OptunaSweeper."""
