"""Hydra's launchers: they run each job of a sweep as a process of its own, on this machine or on Slurm.

Hydra imports this module for every command, so what is heavy is imported where it is used.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


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
