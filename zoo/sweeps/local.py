"""Jobs as processes of this machine: one at a time with all of it, or several, each on GPUs or cores of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from typing import Any

from zoo.errors import ZooError
from zoo.runs.records import read_job
from zoo.sweeps.jobs import Job, job_record
from zoo.sweeps.processes import Command, Outcome, clean_environment, kill_group, outcome_of, prepare_child
from zoo.sweeps.scheduler import Running
from zoo.sweeps.slurm import queued


class LocalBackend:
    """Runs jobs and commands side by side, each on slots of its own.

    Args:
        device: "machine" (one job at a time, with all there is), "gpus" (those this process may see) or "cpus" (its cores).
        per_job: Slots for each job.
        slots: The ids of the slots, or how many of them; null = all.

    Raises:
        ZooError: This machine does not have such slots.
    """

    poll_seconds = 0.1

    def __init__(self, device: str, per_job: int = 1, slots: Any = None) -> None:
        self.device, self.per_job = device, 1 if device == "machine" else per_job
        self.slots: Sequence[Any] = ["machine"] if device == "machine" else chosen_slots(device, per_job, slots)

    def check(self, job: Job) -> None:
        """Writes into a job's settings what it will find on its slots, and resolves them. Raises ZooError."""
        from zoo.training.resolve import resolve_config

        trainer = job.settings.trainer
        if trainer.num_nodes != 1:
            raise ZooError(f"trainer.num_nodes={trainer.num_nodes} needs several machines; use hydra/launcher=slurm.")
        if self.device == "cpus":
            if trainer.accelerator == "gpu":
                raise ZooError("trainer.accelerator=gpu finds no GPU under hydra/launcher=cpus; use hydra/launcher=gpus.")
            trainer.accelerator = "cpu"
        elif self.device == "gpus" and trainer.devices == "auto" and trainer.accelerator != "cpu":
            trainer.devices = self.per_job
        job.settings = resolve_config(job.settings, job.overrides)
        trainer = job.settings.trainer
        of_slots = self.device == "cpus" or (self.device == "gpus" and trainer.accelerator == "gpu")
        if of_slots and trainer.devices > self.per_job:
            raise ZooError(
                f"trainer.devices={trainer.devices} is more than the {self.per_job} {self.device} of a job; "
                f"set hydra.launcher.per_job={trainer.devices}."
            )
        record = read_job(job.folder)
        if record.get("status") == "running" and (number := record.get("slurm")) in self._queued_by_slurm:
            raise ZooError(
                f"{job.folder} is still job {number} of Slurm; watch it with hydra/launcher=slurm, or stop it with scancel {number}."
            )

    @cached_property
    def _queued_by_slurm(self) -> set[str]:
        """Jobs of Slurm, on a machine that has one."""
        return queued() if shutil.which("squeue") else set()

    def start(self, job: Job | Command, slots: list[Any]) -> Running:
        environment = {name: value for name, value in clean_environment().items() if not name.startswith("SLURM_")}
        if self.device == "gpus":
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(slots)
        elif self.device == "cpus":
            environment["CUDA_VISIBLE_DEVICES"] = ""
            environment["OMP_NUM_THREADS"] = str(max(1, len(slots) // (job.settings.trainer.devices if isinstance(job, Job) else 1)))
        if job.folder:
            job.folder.mkdir(exist_ok=True)
        command = job.argv()
        with open(job.log, "ab") if job.log else nullcontext() as log:
            log_start = log.tell() if log else 0
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C reaches it only through this process, once
                preexec_fn=partial(prepare_child, os.getpid(), slots if self.device == "cpus" else []),
            )
        message = "started" if self.device == "machine" else f"started on {self.device} {','.join(map(str, slots))}"
        if isinstance(job, Job):
            return Running(job, process, message, job_record(job.overrides, command, slots, pid=process.pid), log_start)
        return Running(job, process, f"{message}, prints into {job.log}" if job.log else "", {}, log_start)

    def poll(self, one: Running) -> bool:
        return one.handle.poll() is not None

    def outcome(self, one: Running) -> Outcome:
        code = one.handle.returncode
        kill_group(one.handle)  # ranks of a job whose first process has died
        if isinstance(one.job, Command):
            return Outcome("failed" if code else "finished", "", code)
        return outcome_of(one.job.folder, code, one.log_start)

    def stop(self, running: list[Running], kill: bool) -> str:
        for one in running:
            if kill and isinstance(one.job, Job):
                kill_group(one.handle)
            else:
                one.handle.terminate()  # a command that starts a sweep kills its jobs when it is told twice
        return ""


def chosen_slots(device: str, per_job: int, chosen: Any) -> list[Any]:
    """The GPUs or cores that jobs share, see LocalBackend. Raises ZooError."""
    if device == "gpus":
        from zoo.hardware import visible_gpus

        found: list[Any] = visible_gpus()
        if not found:
            raise ZooError("hydra/launcher=gpus was asked for, but this machine has no GPU to use; take hydra/launcher=cpus or local.")
    else:
        found = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
    if isinstance(chosen, int) and not isinstance(chosen, bool):
        if not 1 <= chosen <= len(found):
            raise ZooError(f"hydra.launcher.slots={chosen} was asked for, but this process may use {len(found)} {device}.")
        found = found[:chosen]
    elif chosen is not None:
        wanted = []
        with suppress(TypeError, ValueError):  # neither a number nor a list, or a list of something else
            wanted = [type(found[0])(slot) for slot in chosen]
        if not wanted or len({*wanted}) < len(wanted) or not {*wanted} <= {*found}:
            raise ZooError(f"hydra.launcher.slots={chosen} must be some of the {device} this process may use: {found}.")
        found = wanted
    if type(per_job) is not int or not 1 <= per_job <= len(found):
        raise ZooError(f"hydra.launcher.per_job={per_job} must be a whole number from 1 to {len(found)}, all {device}.")
    return found
