"""sweep.json and job.json, which a sweep leaves: written and read here; `zoo.runs` and `zoo.comparison` only look at them.

sweep.json: started, ended, command, arguments, versions, jobs (folder and overrides of each). job.json: overrides, command, status
(running, finished, failed, interrupted), reason, exit code, seconds, slots, and what its backend finds it by again.
"""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from zoo.errors import ZooError
from zoo.files import write_json
from zoo.runs.files import JOB, read_json


def read_job(folder: Path) -> dict[str, Any]:
    """job.json of a job's folder; empty if it is missing or damaged."""
    return read_json(folder / JOB)


def write_job(folder: Path, record: dict[str, Any]) -> None:
    """Writes job.json into a job's folder."""
    write_json(folder / JOB, record)


def job_record(overrides: list[str], command: list[str], slots: list[Any], **more: Any) -> dict[str, Any]:
    """job.json of a job that starts: `command` is its argv, `more` what its backend finds it by again."""
    unknown = {"status": "running", "reason": "", "exit_code": None, "seconds": None}
    return {"overrides": overrides, "command": shlex.join(["python", *command[1:]]), **unknown, "slots": slots, **more}


def read_sweep(folder: Path) -> dict[str, Any]:
    """sweep.json of a sweep's folder; with no jobs if it is missing or damaged."""
    return {"jobs": []} | read_json(folder / "sweep.json")


def write_sweep(folder: Path, record: dict[str, Any]) -> None:
    """Writes sweep.json into a sweep's folder."""
    write_json(folder / "sweep.json", record)


@contextlib.contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds a sweep's folder for this process, which may ask for it again inside; makes it. Raises ZooError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.resolve() / ".lock", is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ZooError(f"Another process is at work on the sweep in {folder}; wait for it, or name another hydra.sweep.dir.") from None
    try:
        yield
    finally:
        lock.release()
