"""Sweeps on Slurm: `python -m zoo.train -m hydra/launcher=slurm model=ae,vae trainer.devices=8 trainer.num_nodes=2`.

Each job of the sweep is a job of Slurm, submitted by submitit with the options of hydra-submitit-launcher. What that launcher would pickle
and call is here a plain `python -m zoo.train …` in the job's folder, one on each of Slurm's tasks, as on one machine: Lightning finds the
ranks in Slurm's variables. Before its time is over or when it is preempted, the run saves, is queued again, and goes on from there.
The process that started the sweep only watches: when it ends, the jobs stay in the queue, and the same command watches them again.

The tests use submitit's own scripts, signals and pickles, with stand-ins for Slurm's commands on one machine.
"""

import getpass
import math
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from zoo.config.overrides import quoted
from zoo.config.schema import TrainSettings
from zoo.errors import ZooError
from zoo.runs.records import read_job
from zoo.runs.status import has_checkpoint, state_of
from zoo.sweeps.jobs import Job, job_record, overrides_to_start
from zoo.sweeps.processes import Outcome, clean_environment, die_with_parent, job_command, outcome_of
from zoo.sweeps.scheduler import Running

ASK_SECONDS = 30.0  # between two looks into Slurm's queue, for jobs that leave no result, as cancelled ones
ENDED_BY_SLURM = ("CANCELLED", "PREEMPTED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL")
SHAPE = {"nodes": "trainer.num_nodes", "tasks_per_node": "trainer.devices", "gpus_per_node": "trainer.devices"}


class SlurmBackend:
    """Submits jobs to Slurm, all at once, and watches them; those that Slurm still has are only watched.

    Args:
        options: Those of hydra-submitit-launcher's Slurm launcher, see conf/hydra/launcher/slurm.yaml.
        folder: The sweep's.

    Raises:
        ZooError: Jobs cannot be submitted here, or an option is unknown or of the wrong type.
    """

    slots, per_job = (), 0  # Slurm gives them
    poll_seconds = 1.0

    def __init__(self, options: dict[str, Any], folder: Path) -> None:
        try:
            import submitit  # noqa: F401
            from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
        except ModuleNotFoundError:
            raise ZooError("hydra/launcher=slurm needs hydra-submitit-launcher; install it with pip install 'zoo[slurm]'.") from None
        if not (shutil.which("sbatch") and shutil.which("srun")):
            raise ZooError("hydra/launcher=slurm found no sbatch and srun; type the command on a machine that submits to Slurm.")
        self.given = options
        self.options: Any = OmegaConf.to_container(OmegaConf.merge(SlurmQueueConf(), options))  # refuses unknown names and wrong types
        self.notes = folder.resolve() / ".submitit" / "%j"  # where submitit writes
        self.queue, self.asked_at = set[str](), -math.inf

    def check(self, job: Job) -> None:
        """Resolves what can be resolved away from the nodes, and checks that the launcher's options fit the job. Raises ZooError."""
        from zoo.training.resolve import resolve_config

        if job.settings.trainer.devices == "auto":
            job.settings.trainer.devices = 1  # what is left to the machine is one process on each node
        elsewhere = job.settings.model_copy(deep=True)
        elsewhere.trainer.accelerator, elsewhere.trainer.precision = "cpu", "32-true"  # the nodes have GPUs, this machine perhaps not
        here, resolved = job.settings.trainer, resolve_config(elsewhere, job.overrides)
        own = resolved.trainer.model_copy(update={"accelerator": here.accelerator, "precision": here.precision})
        job.settings = resolved.model_copy(update={"trainer": own})
        for name, number in shape_of(job.settings).items():
            given = self.given.get(name)
            if given is not None and given != number:
                raise ZooError(f"hydra.launcher.{name}={given} is not what {SHAPE[name]} asks for, {number}; set {SHAPE[name]} alone.")
        if self.given.get("gpus_per_task"):
            raise ZooError("hydra.launcher.gpus_per_task would hide the other GPUs from each process; leave it out, set trainer.devices.")

    def start(self, job: Job, slots: list[Any]) -> Running:
        """Submits a job, unless Slurm still has it. Raises ZooError if Slurm refuses it."""
        import submitit

        record = read_job(job.folder)
        if record.get("slurm") in self._queued():
            handle: Any = submitit.SlurmJob(self.notes, record["slurm"], range(record["tasks"]))
            return Running(job, handle, f"is still job {record['slurm']} of Slurm", record, record["log_start"], record["submitted"])
        job.folder.mkdir(exist_ok=True)
        # What Slurm gives, also to a job that says auto or was begun elsewhere.
        given = [f"trainer.{name}={getattr(job.settings.trainer, name)}" for name in ("devices", "num_nodes")]
        overrides = overrides_to_start(job)
        start = job_command([*overrides, *(setting for setting in given if setting not in overrides)], job.folder)
        resume = job_command([f"resume={quoted(job.folder)}", *given, *job.trusted_override()], job.folder)
        log_start, now = job.log.stat().st_size if job.log.exists() else 0, time.time()
        try:
            handle = self._executor(job).submit(Task(job, start, resume, self.options["signal_delay_s"]))
        except submitit.core.utils.UncompletedJobError as error:
            raise ZooError(f"Slurm refused the job {job.title}: {' '.join(str(error).split())}") from None
        self.queue.add(handle.job_id)
        found_by = {"slurm": handle.job_id, "tasks": handle.num_tasks, "log_start": log_start, "submitted": now}
        record = job_record(job.overrides, start, [], pid=None, **found_by)
        return Running(job, handle, f"is job {handle.job_id} of Slurm", record, log_start, now)

    def _executor(self, job: Job) -> Any:
        """What submits a job with its options."""
        import submitit
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

        generic = set(OmegaConf.structured(BaseQueueConf)) - {"submitit_folder"}
        left_out = ("_target_", "submitit_folder", "max_num_timeout", "array_parallelism")
        options = {name: value for name, value in self.options.items() if name not in left_out} | shape_of(job.settings)
        options |= {"name": job.folder.name, "stderr_to_stdout": True}
        if options["gres"]:
            options["gpus_per_node"] = None
        cores = [f"--cpus-per-task={options['cpus_per_task']}"] if options["cpus_per_task"] else []  # srun does not take it from sbatch
        options["srun_args"] = ["--kill-on-bad-exit=1", *cores]  # a process that has lost another one would wait for it
        options["additional_parameters"] = {"requeue": True} | options["additional_parameters"]
        executor = submitit.AutoExecutor(self.notes, cluster="slurm", slurm_max_num_timeout=self.options["max_num_timeout"])
        executor.update_parameters(**{name if name in generic else f"slurm_{name}": value for name, value in options.items()})
        return executor

    def _queued(self) -> set[str]:
        """The ids of this user's jobs in Slurm's queue, as they were at most ASK_SECONDS ago."""
        if time.monotonic() - self.asked_at > ASK_SECONDS:
            self.queue, self.asked_at = queued(), time.monotonic()
        return self.queue

    def poll(self, one: Running) -> bool:
        return one.handle.job_id not in self._queued() or one.handle.done()

    def outcome(self, one: Running) -> Outcome:
        state = one.handle.get_info().get("State", "")  # empty where Slurm keeps no accounts
        if state_of(one.job.folder) == "finished":
            return Outcome("finished")
        if state.startswith(ENDED_BY_SLURM):
            return Outcome("interrupted", f"Slurm ended it ({state.lower()}); the same command goes on.")
        if state.startswith("OUT_OF_ME"):
            return Outcome("failed", "It needed more memory than Slurm gave it; raise hydra.launcher.mem_gb.")
        return outcome_of(one.job.folder, 1, one.log_start)._replace(exit_code=None)  # Slurm's own is that of srun

    def stop(self, running: list[Running], kill: bool) -> str:
        ids = " ".join(one.handle.job_id for one in running)
        return f"The jobs stay in Slurm: the same command watches them again, and `scancel {ids}` stops them."


def queued() -> set[str]:
    """The ids of this user's jobs that wait or run. Raises ZooError if Slurm does not answer."""
    asked = subprocess.run(["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i"], capture_output=True, text=True)
    if asked.returncode:
        raise ZooError(f"Slurm does not answer ({' '.join(asked.stderr.split())}); jobs it has stay there, and the same command goes on.")
    return set(asked.stdout.split())


def shape_of(settings: TrainSettings) -> dict[str, Any]:
    """What a job that was checked asks Slurm for: nodes, processes on each, and a GPU for each process."""
    trainer = settings.trainer
    gpus = None if trainer.accelerator == "cpu" else trainer.devices
    return {"nodes": trainer.num_nodes, "tasks_per_node": trainer.devices, "gpus_per_node": gpus}


@dataclass
class Task:
    """What each of Slurm's tasks does for a job: runs its command, or the one that resumes it. All tasks decide alike.

    submitit pickles it, calls it in each task, and calls `checkpoint` in the first one when its time is almost over or it is preempted.
    """

    job: Job
    start: list[str]
    resume: list[str]
    signal_delay_s: int  # seconds between being told to save and the end
    process: Any = field(default=None, init=False)
    stopping: bool = field(default=False, init=False)

    def __call__(self) -> None:
        if state_of(self.job.folder) == "finished":
            return
        # No checkpoint can appear between the tasks' looks at the folder: training begins when all have joined.
        command = self.resume if has_checkpoint(self.job.folder) else self.start
        if command == self.start and os.environ.get("SLURM_PROCID") == "0":
            overrides_to_start(self.job)  # clears away what an earlier try has left without a checkpoint
        # Slurm may signal this process alone or all of the job's, depending on the cluster, so SIGTERM is passed on.
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        with open(self.job.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare_task_child,
            )
        while (code := self.process.poll()) is None:
            time.sleep(0.1)
        if code == 128 + signal.SIGTERM:
            raise SystemExit(code)  # Slurm knows why it asked
        if code:
            raise RuntimeError(f"exit code {code}")

    def stop(self) -> None:
        """Tells the run to save and end, once."""
        if self.process and not self.stopping:
            self.stopping = True
            self.process.terminate()

    def checkpoint(self) -> Any:
        """Has the run save, waits for it, and says what is to be queued again. Inside a signal handler."""
        import submitit

        self.stop()
        latest = time.monotonic() + max(self.signal_delay_s - 15, 5)
        while self.process and time.monotonic() < latest:
            # Popen's own lock may be held by what this handler has interrupted.
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.1)
        return submitit.helpers.DelayedSubmission(Task(self.job, self.start, self.resume, self.signal_delay_s))


def prepare_task_child() -> None:
    """In the run's process, before its program begins: submitit's signals are not for it, and it ends with its task."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(signal.SIGKILL)
