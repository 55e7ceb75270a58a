"""Processes of the zoo's commands: their environment, what ties them to the process that started them, and how they ended."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from zoo.config.overrides import quoted
from zoo.runs.layout import LOG, SUMMARY

# What a process group, torchrun, Lightning or Hydra leaves in the environment, and what would make a job a part of it.
LEAKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK")
LEAK_PREFIXES = ("MASTER_", "GROUP_", "ROLE_", "TORCHELASTIC_", "PL_", "HYDRA_")
# Exit codes of a process that was told to stop.
STOP_CODES = (128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)


@dataclass
class Command:
    """python -m zoo.NAME ARGUMENT…"""

    name: str
    arguments: list[str]
    log: Path | None = None  # where it writes what it prints; None: where this process does
    folder: ClassVar[None] = None  # it has no job.json

    @property
    def label(self) -> str:
        """What it is called in what is printed."""
        return f"zoo.{self.name} {self.arguments[0]}"

    def argv(self) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", f"zoo.{self.name}", *self.arguments]


class Outcome(NamedTuple):
    """How a job ended."""

    status: str  # finished, failed or interrupted
    reason: str = ""
    exit_code: int | None = None  # negative: the signal that killed it; None: not known


def job_command(overrides: list[str], folder: Path) -> list[str]:
    """The command of a plain single run with these overrides in this folder."""
    return [sys.executable, "-m", "zoo.train", *overrides, f"hydra.run.dir={quoted(folder)}"]


def clean_environment() -> dict[str, str]:
    """This process's environment without what would make a job a part of another process group."""
    return {name: value for name, value in os.environ.items() if name not in LEAKS and not name.startswith(LEAK_PREFIXES)}


def prepare_child(parent: int, cores: Sequence[int]) -> None:
    """In a new process, before its program begins: it is told to save when its parent dies, and stays on its cores."""
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        os._exit(128 + signal.SIGTERM)
    if cores and sys.platform == "linux":
        os.sched_setaffinity(0, cores)


def die_with_parent(number: int) -> None:
    """Has the kernel send this process the signal `number` when the process that started it dies; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills all that is left of a process group, whose first process may have ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def outcome_of(folder: Path, code: int, log_start: int) -> Outcome:
    """How the process of the run in this folder ended. What it printed begins in log.txt at `log_start`, in bytes."""
    if code in STOP_CODES:
        return Outcome("interrupted", "", code)
    if code == 0 and (folder / SUMMARY).is_file():
        return Outcome("finished", "", code)
    if code == -signal.SIGKILL:
        return Outcome("failed", "It was killed; the machine's memory may have run out.", code)
    lines = lines_of(folder / LOG, log_start, most=2**16)
    user_errors = [line.removeprefix("zoo: ") for line in lines if line.startswith("zoo: ")]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    reasons = user_errors or raised or lines or [f"It ended with exit code {code} and said nothing."]
    return Outcome("failed", reasons[-1], code)


def lines_of(log: Path, start: int, most: int) -> list[str]:
    """The last lines of a log, at most so many bytes from `start` on, without empty ones; [] if there is no log."""
    with suppress(FileNotFoundError), open(log, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - most))
        return [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return []
