"""Processes of the zoo's commands: their environment, and what ties them to the process that started them."""

import ctypes
import os
import sys
from pathlib import Path

from zoo.config.overrides import quoted

# What a process group, torchrun, Lightning or Hydra leaves in the environment, and what would make a job a part of it.
LEAKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK")


LEAK_PREFIXES = ("MASTER_", "GROUP_", "ROLE_", "TORCHELASTIC_", "PL_", "HYDRA_")


def job_command(overrides: list[str], folder: Path) -> list[str]:
    """The command of a plain single run with these overrides in this folder."""
    return [sys.executable, "-m", "zoo.train", *overrides, f"hydra.run.dir={quoted(folder)}"]


def clean_environment() -> dict[str, str]:
    """This process's environment without what would make a job a part of another process group."""
    return {name: value for name, value in os.environ.items() if name not in LEAKS and not name.startswith(LEAK_PREFIXES)}


def die_with_parent(number: int) -> None:
    """Has the kernel send this process the signal `number` when the process that started it dies; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
