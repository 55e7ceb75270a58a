"""Sweeps: a sweeper that makes the grid, and a launcher that runs each job as a process of its own, on its share of the machine.

Hydra accepts launchers and sweepers from this package name only, and imports them for every verb: what is heavy is imported where it is
used.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console

from zoo.errors import ZooError
from zoo.files import write_json
from zoo.runs.files import read_json, read_metrics
from zoo.runs.status import state_of
from zoo.sweeps.jobs import Job, begun, blaming, duration, enter, jobs_of, locked, outcome, overrides_to_start
from zoo.sweeps.processes import clean_environment, die_with_parent, job_command

POLL_SECONDS = 0.1


class Grid(BasicSweeper):
    """All combinations of the values that the command line lists, those of `params` first. Writes nothing itself."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        for override in overrides:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ZooError(f"'{override.input_line}' is a range to search in; list values, or search by hydra/sweeper=optuna.")
        [batch] = self.split_arguments(overrides, None)
        for position, job in enumerate(batch):
            if job in batch[:position]:
                raise ZooError(f"Two jobs would be alike: {' '.join(job)}; list each value once.")
        return [self.launcher.launch(batch, initial_job_idx=0)]


@dataclass
class Running:
    """A job's process."""

    job: Job
    process: subprocess.Popen[bytes]
    slots: list[Any]
    record: dict[str, Any]  # job.json
    log_start: int
    began: float


class Pool(Launcher):
    """Runs jobs side by side, each on slots of its own.

    Args:
        device: "machine" (one job at a time, with all there is), "gpus" (those this process may see) or "cpus" (its cores).
        per_job: Slots for each job.
        slots: The ids of the slots, or how many of them; null = all.
    """

    def __init__(self, device: str, per_job: int = 1, slots: Any = None) -> None:
        self.device, self.per_job, self.chosen = device, per_job, slots

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs these jobs; returns their final metrics, None for a job that failed.

        Raises:
            ZooError: Some job's settings are wrong; before anything is written.
            SystemExit: After a signal, when the running jobs have saved.
        """
        jobs, slots = self.settled(job_overrides, initial_job_idx)
        folder = Path(self.config.hydra.sweep.dir)
        with locked(folder):
            enter(folder, jobs)
            self._run(jobs, slots)
        returns = []
        for job in jobs:
            finished = read_json(job.folder / "job.json")["status"] == "finished"
            metrics = read_metrics(job.folder) if finished else None
            returns.append(JobReturn(overrides=job.overrides, cfg=job.config, working_dir=str(job.folder), status=JobStatus.COMPLETED))
            returns[-1].return_value = metrics
        return returns

    def settled(self, job_overrides: Sequence[Sequence[str]], first: int) -> tuple[list[Job], list[Any]]:
        """The jobs, of which `first` is the first one's number, and the slots they share. Writes nothing. Raises ZooError."""
        slots = self._slots()
        jobs = jobs_of(self.config, self.loader, job_overrides, first)
        for job in jobs:
            with blaming(job.title, job.overrides):
                self._check(job.config)
        return jobs, slots

    def _slots(self) -> list[Any]:
        """What the jobs share. Raises ZooError."""
        if self.device == "machine":
            return ["machine"]
        if self.device == "gpus":
            from zoo.hardware import visible_gpus

            found: list[Any] = visible_gpus()
            if not found:
                raise ZooError("hydra/launcher=gpus was asked for, but this machine has no GPU to use; take hydra/launcher=cpus or local.")
        else:
            found = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
        chosen = self.chosen
        if isinstance(chosen, int) and not isinstance(chosen, bool):
            if not 1 <= chosen <= len(found):
                raise ZooError(f"hydra.launcher.slots={chosen} was asked for, but this process may use {len(found)} {self.device}.")
            found = found[:chosen]
        elif chosen is not None:
            wanted = []
            with suppress(TypeError, ValueError):  # neither a number nor a list, or a list of something else
                wanted = [type(found[0])(slot) for slot in chosen]
            if not wanted or len({*wanted}) < len(wanted) or not {*wanted} <= {*found}:
                raise ZooError(f"hydra.launcher.slots={chosen} must be some of the {self.device} this process may use: {found}.")
            found = wanted
        if type(self.per_job) is not int or not 1 <= self.per_job <= len(found):
            raise ZooError(f"hydra.launcher.per_job={self.per_job} must be a whole number from 1 to {len(found)}, all {self.device}.")
        return found

    def _check(self, config: DictConfig) -> None:
        """Writes into a job's settings what it will find on its slots, and settles them. Raises ZooError."""
        from zoo.training.resolve import settle

        trainer = config.trainer
        if trainer.num_nodes != 1:
            raise ZooError(f"trainer.num_nodes={trainer.num_nodes} needs several machines; use hydra/launcher=slurm.")
        if self.device == "cpus":
            if trainer.accelerator == "gpu":
                raise ZooError("trainer.accelerator=gpu finds no GPU under hydra/launcher=cpus; use hydra/launcher=gpus.")
            trainer.accelerator = "cpu"
        elif self.device == "gpus" and trainer.devices == "auto" and trainer.accelerator != "cpu":
            trainer.devices = self.per_job
        settle(config)
        of_slots = self.device == "cpus" or (self.device == "gpus" and trainer.accelerator == "gpu")
        if of_slots and trainer.devices > self.per_job:
            raise ZooError(
                f"trainer.devices={trainer.devices} is more than the {self.per_job} {self.device} of a job; "
                f"set hydra.launcher.per_job={trainer.devices}."
            )

    def _run(self, jobs: list[Job], slots: list[Any]) -> None:
        """Runs what is not finished, each job as soon as there are slots for it."""
        refuse_jobs_of_slurm(jobs)
        console = Console()
        total = jobs[0].number + len(jobs)

        def say(job: Job, what: str) -> None:
            line = f"[{job.number + 1:{len(str(total))}}/{total}] {job.title}  {what}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        waiting: deque[Job] = deque()
        for job in jobs:
            if state_of(job.folder) == "finished":
                record = read_json(job.folder / "job.json")
                write_json(job.folder / "job.json", {"overrides": job.overrides} | record | {"status": "finished", "reason": ""})
                say(job, "was finished before, skipped")
            else:
                waiting.append(job)
        free, running, received = list(slots), list[Running](), list[int]()
        need = 1 if self.device == "machine" else self.per_job
        before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
        stopping = False
        live = console.status("") if console.is_terminal else nullcontext()
        try:
            with live as status:
                while running or (waiting and not received):
                    while waiting and not received and len(free) >= need:
                        taken, free = free[:need], free[need:]
                        running.append(self._start(waiting.popleft(), taken))
                        where = "" if self.device == "machine" else f" on {self.device} {','.join(map(str, taken))}"
                        say(running[-1].job, f"started{where}")
                    time.sleep(POLL_SECONDS)
                    if received and not stopping:
                        stopping = True
                        console.print("Stopping: the jobs that run are saving; a second signal kills them.", highlight=False)
                        for one in running:
                            one.process.terminate()
                    for one in list(running):
                        if len(received) > 1:
                            kill_group(one.process)
                        if one.process.poll() is not None:
                            running.remove(one)
                            free += one.slots
                            say(one.job, self._end(one, stopping))
                    if status is not None:
                        status.update(last_line(running[0]) if len(running) == 1 else f"{len(running)} jobs are running")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if received:
            done = sum(state_of(job.folder) == "finished" for job in jobs)
            console.print(f"Stopped by a signal; {done} of {len(jobs)} jobs are finished; the same command goes on.", highlight=False)
            raise SystemExit(128 + received[0])

    def _start(self, job: Job, slots: list[Any]) -> Running:
        """Starts a job's process in a process group of its own."""
        environment = {name: value for name, value in clean_environment().items() if not name.startswith("SLURM_")}
        cores: list[int] = []
        if self.device == "gpus":
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(slots)
        elif self.device == "cpus":
            environment["CUDA_VISIBLE_DEVICES"] = ""
            environment["OMP_NUM_THREADS"] = str(max(1, len(slots) // job.config.trainer.devices))
            cores = slots
        job.folder.mkdir(exist_ok=True)
        command = job_command(overrides_to_start(job), job.folder)
        with open(job.folder / "log.txt", "ab") as log:
            start = log.tell()
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(prepare_child, os.getpid(), cores),
            )
        record = begun(job, command, slots, pid=process.pid)
        write_json(job.folder / "job.json", record)
        return Running(job, process, slots, record, start, time.monotonic())

    def _end(self, one: Running, stopping: bool) -> str:
        """Enters a job's end in its job.json, frees its slots of what may be left of it, and says in a few words how it ended."""
        code = one.process.returncode
        kill_group(one.process)  # ranks of a job whose first process has died
        status, reason = outcome(one.job.folder, code, one.log_start)
        if stopping and status == "failed":
            status, reason = "interrupted", ""
        seconds = time.monotonic() - one.began
        ended = {"status": status, "reason": reason, "exit_code": code, "seconds": round(seconds, 1)}
        write_json(one.job.folder / "job.json", one.record | ended)
        if status == "failed":
            return f"failed after {duration(seconds)}: {reason}"
        return f"{status} {'in' if status == 'finished' else 'after'} {duration(seconds)}"


def refuse_jobs_of_slurm(jobs: list[Job]) -> None:
    """Raises ZooError if the sweep was begun on Slurm, which still has one of these jobs."""
    records = {job.folder: read_json(job.folder / "job.json") for job in jobs}
    given = {record["slurm"]: folder for folder, record in records.items() if "slurm" in record and record["status"] == "running"}
    if given and shutil.which("squeue"):
        from zoo.sweeps.slurm import queued

        for number in given.keys() & queued():
            raise ZooError(
                f"{given[number]} is still job {number} of Slurm; watch it with hydra/launcher=slurm, or stop it with scancel {number}."
            )


def prepare_child(launcher: int, cores: list[int]) -> None:
    """In a job's process, before its program begins: it is told to save when the launcher dies, and stays on its cores."""
    die_with_parent(signal.SIGTERM)
    if os.getppid() != launcher:  # it died before the line above
        os._exit(128 + signal.SIGTERM)
    if cores and sys.platform == "linux":
        os.sched_setaffinity(0, cores)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills all processes of a job."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_line(one: Running) -> str:
    """What a job said last."""
    with open(one.job.folder / "log.txt", "rb") as file:
        file.seek(max(one.log_start, file.seek(0, os.SEEK_END) - 1000))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")[:150].replace("[", r"\[")
