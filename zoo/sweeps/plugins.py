"""Hydra's launchers, which run each job of a sweep as a process of its own, on this machine or on Slurm; and its sweeper for grids,
`python -m zoo.train -m model=ae,vae seed=0,1,2`.

Hydra imports this module for every command, so what is heavy is imported where it is used.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from zoo.errors import ZooError


class LocalLauncher(Launcher):
    """Runs jobs on this machine; arguments: see zoo.sweeps.local.LocalBackend."""

    def __init__(self, device: str, per_job: int = 1, slots: Any = None) -> None:
        self.options: dict[str, Any] = {"device": device, "per_job": per_job, "slots": slots}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.loader = config, hydra_context.config_loader

    def backend(self) -> Any:
        """Where the jobs run. Raises ZooError where they cannot."""
        from zoo.sweeps.local import LocalBackend

        return LocalBackend(**self.options)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs these jobs; returns their final metrics, None for a job that failed.

        Raises:
            ZooError: Some job's settings are wrong; before anything is written.
            SystemExit: After a signal, when the running jobs have saved.
        """
        from zoo.runs.records import read_metrics
        from zoo.sweeps import jobs as sweep_jobs
        from zoo.sweeps import scheduler

        jobs, backend = self.checked_jobs(job_overrides, initial_job_idx)
        folder = Path(self.config.hydra.sweep.dir)
        with sweep_jobs.sweep_lock(folder):
            sweep_jobs.register_jobs(folder, jobs)
            outcomes = scheduler.run_jobs(jobs, backend)
        returns = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            cfg = OmegaConf.create(job.settings.plain())
            returns.append(JobReturn(overrides=job.overrides, cfg=cfg, working_dir=str(job.folder), status=JobStatus.COMPLETED))
            returns[-1].return_value = read_metrics(job.folder) if outcome.status == "finished" else None
        return returns

    def checked_jobs(self, job_overrides: Sequence[Sequence[str]], first: int) -> tuple[list[Any], Any]:
        """The jobs, of which `first` is the first one's number, and the backend that fits them all. Writes nothing. Raises ZooError."""
        from zoo.sweeps.jobs import compose_jobs, job_errors

        backend = self.backend()
        jobs = compose_jobs(self.config, self.loader, job_overrides, first)
        for job in jobs:
            with job_errors(job.title, job.overrides):
                backend.check(job)
        return jobs, backend


class SlurmLauncher(LocalLauncher):
    """Submits jobs to Slurm and waits for them.

    Args:
        options: Those of hydra-submitit-launcher's Slurm launcher, see conf/hydra/launcher/slurm.yaml.
    """

    def __init__(self, **options: Any) -> None:
        self.options = {name: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for name, v in options.items()}

    def backend(self) -> Any:
        from zoo.sweeps.slurm import SlurmBackend

        return SlurmBackend(self.options, Path(self.config.hydra.sweep.dir))


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
