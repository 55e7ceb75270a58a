"""A sweep and its jobs: folders, commands, environments, states, and what is left to do when the same sweep is started again.

A sweep's folder holds sweep.json and a folder for each job. That one is a run's folder with two files more: job.json (overrides,
command, status, reason, exit code, seconds) and log.txt (what it printed). Each job is a process of its own that runs
`python -m zoo.train` with its overrides, so the further ranks that Lightning starts repeat this command, not the sweep's: all ranks have
one folder and one set of settings.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from zoo.config.messages import explain, missing_value
from zoo.config.overrides import is_flag, quoted, takes_several
from zoo.errors import ZooError
from zoo.files import write_json
from zoo.runs.files import read_json
from zoo.runs.status import has_checkpoint, is_alive, state_of

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)  # exit codes of a job that was told to stop
PLACE = ("accelerator", "devices", "num_nodes")  # settings of `trainer` that say where a job runs
LOG_TAIL = 2**16  # bytes of a log that are looked at


@dataclass
class Job:
    """One run of a sweep."""

    number: int  # from 0
    overrides: list[str]  # the sweeper's: those of the command line with one value each
    title: str  # the overrides that other jobs have otherwise: "model=vae seed=0"
    folder: Path  # absolute
    config: DictConfig  # composed, without `hydra`


# Where a sweep is written, how its jobs are packed, and how long it goes on.
NO_IDENTITY = ("hydra.sweep.dir=", "hydra/launcher=", "hydra.launcher.", "hydra.sweeper.trials=", "hydra.sweeper.jobs=")


def identity(arguments: Sequence[str]) -> list[str]:
    """What makes two command lines the same sweep."""
    return [argument for argument in arguments if not is_flag(argument) and not argument.lstrip("+").startswith(NO_IDENTITY)]


def jobs_of(config: DictConfig, loader: Any, batch: Sequence[Sequence[str]], first: int) -> list[Job]:
    """Composes the jobs of a sweep, or of a part of it. Writes nothing.

    Args:
        config: The sweep's configuration, with `hydra`.
        loader: Hydra's config loader.
        batch: The overrides of each job.
        first: The number of the first of these jobs.

    Raises:
        ZooError: A job's settings cannot be composed; names the job and the nearest setting.
    """
    parser = OverridesParser.create(config_loader=loader)
    given = parser.parse_overrides(list(OmegaConf.to_container(config.hydra.overrides.task)))  # type: ignore[arg-type]
    fixed = {key for key, override in {o.get_key_element(): o for o in given}.items() if not takes_several(override)}
    sweep = Path(config.hydra.sweep.dir).resolve()
    group = f"{sweep.parent.name}-{sweep.name}" if re.match(r"\d{4}-\d\d-\d\d$", sweep.parent.name) else sweep.name
    jobs = []
    for number, overrides in enumerate(map(list, batch), start=first):
        differing = [override.partition("=") for override in overrides if override.partition("=")[0] not in fixed]
        names = [key.lstrip("+").rpartition(".")[2] for key, _, _ in differing]
        names = [name if names.count(name) == 1 else key.lstrip("+") for name, (key, _, _) in zip(names, differing, strict=True)]
        values = [value.strip("'\"") for _, _, value in differing]
        title = " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        with blaming(title, overrides):
            own = loader.load_sweep_config(config, overrides)
            with read_write(own), open_dict(own):
                del own["hydra"]
            OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
        if own.logger.kind == "wandb" and own.logger.group is None:
            own.logger.group = group
        what = "-".join(f"{name}-{value}" for name, value in zip(names, values, strict=True)) or f"{own.model.name}-{own.data.name}"
        # Only what Hydra reads without quotes, so that `run=FOLDER` can be typed; it ends at = and at commas.
        name = re.sub(r"[^\w.+-]+", "_", f"{number:02d}-{what}", flags=re.ASCII)[:80].rstrip("_.-")
        jobs.append(Job(number, overrides, title or what, sweep / name, own))
    return jobs


@contextlib.contextmanager
def blaming(title: str, overrides: list[str]) -> Iterator[None]:
    """Turns what is wrong with a job's settings into a ZooError that names the job."""
    try:
        yield
    except ZooError as error:
        sentence = str(error)
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        sentence = missing_value(error)
    except (HydraException, OmegaConfBaseException) as error:
        sentence = explain(error, "train", overrides)
    else:
        return
    raise ZooError(f"{sentence.rstrip('.')} (job {title})." if title else sentence)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
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


def enter(folder: Path, jobs: list[Job]) -> None:
    """Checks that the jobs' folders are theirs, and enters the jobs in sweep.json. Raises ZooError."""
    from zoo.runs.provenance import versions  # imports torch, which Hydra's plugins need not wait for

    for job in jobs:
        known = read_json(job.folder / "job.json")
        if known.get("overrides", job.overrides) != job.overrides or (not known and (job.folder / "config.yaml").exists()):
            raise ZooError(f"{job.folder} holds another run than {job.title}; name another hydra.sweep.dir.")
        if changed := changed_setting(job):
            raise ZooError(f"{job.folder} was begun with {changed}; name another hydra.sweep.dir, or delete this folder.")
        if known.get("status") == "running" and is_alive(known["pid"], job.folder):
            raise ZooError(f"{job.folder} is still being trained by process {known['pid']}, perhaps to save; wait until it has ended.")
    now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    command = shlex.join(["python", "-m", "zoo.train", *sys.argv[1:]])
    record: dict[str, Any] = {"started": now, "jobs": []} | read_json(folder / "sweep.json")
    record |= {"arguments": identity(sys.argv[1:]), "command": command, "versions": versions(), "ended": None}
    known_jobs = {job["folder"]: job for job in record["jobs"]}
    record["jobs"] = list((known_jobs | {j.folder.name: {"folder": j.folder.name, "overrides": j.overrides} for j in jobs}).values())
    write_json(folder / "sweep.json", record)


def changed_setting(job: Job) -> str:
    """A setting that a job, finished or to be resumed, was begun with and that is another now (in a file of conf); "" if there is none."""
    from zoo.comparison.labels import flat, matters, text

    if state_of(job.folder) != "finished" and not has_checkpoint(job.folder):
        return ""
    with contextlib.suppress(OSError, ValueError, OmegaConfBaseException, yaml.YAMLError):
        old = flat(OmegaConf.to_container(OmegaConf.load(job.folder / "config.yaml")))
        new = flat(OmegaConf.to_container(job.config, resolve=True))
        for key in new:
            if key in old and old[key] != new[key] and matters(key) and not key.startswith(("pretrain.run", "trainer.precision")):
                return f"{key}={text(old[key])}, not {text(new[key])}"
    return ""


def overrides_to_start(job: Job) -> list[str]:
    """The overrides that a job's process is given now: its own, or where it goes on. Clears away what it left without a checkpoint."""
    if has_checkpoint(job.folder):  # the run keeps its settings, but for the devices that this launcher gives
        return [f"resume={quoted(job.folder)}", *(f"trainer.{name}={job.config.trainer[name]}" for name in PLACE)]
    extra = []
    if job.config.logger.kind == "wandb":
        extra = [f"logger.group={job.config.logger.group}"]
        # One W&B run for each job, however often it is started.
        with contextlib.suppress(OSError, AttributeError, OmegaConfBaseException, ValueError, yaml.YAMLError):
            earlier: Any = OmegaConf.load(job.folder / "config.yaml")
            extra.append(f"logger.id={quoted(earlier.logger.id)}")
    for path in (job.folder / "config.yaml", job.folder / "pretrain" / "config.yaml"):
        path.unlink(missing_ok=True)
    for path in (job.folder / "wandb", job.folder / "pretrain" / "wandb"):
        shutil.rmtree(path, ignore_errors=True)
    return [*job.overrides, *extra]


def begun(job: Job, command: list[str], slots: list[Any], **more: Any) -> dict[str, Any]:
    """job.json of a job that begins: `command` is its argv, `more` what tells its launcher where it is."""
    unknown = {"status": "running", "reason": "", "exit_code": None, "seconds": None}
    return {"overrides": job.overrides, "command": shlex.join(["python", *command[1:]]), **unknown, "slots": slots, **more}


def outcome(folder: Path, code: int, log_start: int) -> tuple[str, str]:
    """What became of a job's process: (status, reason).

    Args:
        folder: The job's folder.
        code: Its exit code; negative: the signal that killed it.
        log_start: Where in log.txt its output begins, in bytes.
    """
    if code in STOPPED:
        return "interrupted", ""
    if code == 0 and (folder / "summary.json").is_file():
        return "finished", ""
    if code == -signal.SIGKILL:
        return "failed", "It was killed; the machine's memory may have run out."
    with open(folder / "log.txt", "rb") as file:
        file.seek(max(log_start, file.seek(0, os.SEEK_END) - LOG_TAIL))
        lines = [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("zoo: ") for line in lines if line.startswith("zoo: ")]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return "failed", (said or raised or lines or [f"It ended with exit code {code} and said nothing."])[-1]


def duration(seconds: float) -> str:
    """ "3 min 12 s"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
