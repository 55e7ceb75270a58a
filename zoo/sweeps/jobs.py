"""The jobs of a sweep: their settings and folders, what is left to do when the same sweep is started again, and the sweep's end.

A sweep's folder holds sweep.json and a folder for each job. That one is a run's folder with two files more, job.json and log.txt (what it
printed). Each job is a process of its own that runs `python -m zoo.train` with its overrides, so the further ranks that Lightning starts
repeat this command, not the sweep's: all ranks have one folder and one set of settings.

sweep.json: started, ended, command, arguments, versions, jobs (folder and overrides of each). job.json: overrides, command, status
(running, finished, failed, interrupted), reason, exit code, seconds, slots, and what its backend finds it by again.
"""

import contextlib
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from zoo.config.check import check
from zoo.config.instantiate import take_trusted
from zoo.config.messages import MISTAKES, explain
from zoo.config.overrides import is_flag, quoted, takes_several
from zoo.config.schema import TrainSettings
from zoo.errors import ZooError
from zoo.runs import records
from zoo.runs.layout import CONFIG, LOG, PRETRAIN, SWEEP, config_of
from zoo.runs.records import read_job, read_sweep
from zoo.runs.status import has_checkpoint, is_alive, state_of
from zoo.runs.wandb_files import wandb_node
from zoo.sweeps.processes import job_command

PLACEMENT = ("accelerator", "devices", "num_nodes")  # settings of `trainer` that say where a job runs


@dataclass
class Job:
    """One run of a sweep."""

    label: str  # what it is called in what is printed: "[1/4] model=vae seed=0"
    overrides: list[str]  # the sweeper's: those of the command line with one value each
    title: str  # the overrides that other jobs have otherwise: "model=vae seed=0"
    folder: Path  # absolute
    settings: TrainSettings  # as composed; resolved when its backend has checked it
    trusted: list[str] = field(default_factory=list)  # packages and classes of the user's own, as typed

    @property
    def log(self) -> Path:
        """The file that it prints into."""
        return self.folder / LOG

    def trusted_override(self) -> list[str]:
        """What lets a resumed job make the classes that were typed when the sweep was started; the run's folder alone may not name them."""
        return [f"trusted=[{','.join(self.trusted)}]"] if self.trusted else []

    def argv(self) -> list[str]:
        """What starts it now; see `overrides_to_start`."""
        return job_command(overrides_to_start(self), self.folder)


# Where a sweep is written, how its jobs are packed, and how long it goes on.
NO_IDENTITY = ("hydra.sweep.dir=", "hydra/launcher=", "hydra.launcher.", "hydra.sweeper.trials=", "hydra.sweeper.jobs=")


def identity(arguments: Sequence[str]) -> list[str]:
    """What makes two command lines the same sweep."""
    return [argument for argument in arguments if not is_flag(argument) and not argument.lstrip("+").startswith(NO_IDENTITY)]


def compose_jobs(config: DictConfig, loader: Any, batch: Sequence[Sequence[str]], first: int) -> list[Job]:
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
    jobs: list[Job] = []
    total = first + len(batch)
    for number, overrides in enumerate(map(list, batch), start=first):
        differing = [override.partition("=") for override in overrides if override.partition("=")[0] not in fixed]
        names = [key.lstrip("+").rpartition(".")[2] for key, _, _ in differing]
        names = [name if names.count(name) == 1 else key.lstrip("+") for name, (key, _, _) in zip(names, differing, strict=True)]
        values = [value.strip("'\"") for _, _, value in differing]
        title = " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        with job_errors(title, overrides):
            own = loader.load_sweep_config(config, overrides)
            with read_write(own), open_dict(own):
                del own["hydra"]
            trusted = take_trusted(own)
            if own.pretrain.run is not None:
                from zoo.training.stages import open_pretrained  # imports torch, which Hydra's plugins need not wait for

                open_pretrained(own)
            settings = check(own)
        if (wandb := wandb_node(settings.logger)) and wandb.get("group") is None:
            wandb["group"] = group
        what = "-".join(f"{name}-{value}" for name, value in zip(names, values, strict=True))
        what = what or f"{settings.model['name']}-{settings.data.name}"
        # Only what Hydra reads without quotes, so that `run=FOLDER` can be typed; it ends at = and at commas.
        name = re.sub(r"[^\w.+-]+", "_", f"{number:02d}-{what}", flags=re.ASCII)[:80].rstrip("_.-")
        label = f"[{number + 1:{len(str(total))}}/{total}] {title or what}"
        jobs.append(Job(label, overrides, title or what, sweep / name, settings, trusted))
    return jobs


@contextlib.contextmanager
def job_errors(title: str, overrides: list[str]) -> Iterator[None]:
    """Turns what is wrong with a job's settings into a ZooError that names the job."""
    try:
        yield
    except MISTAKES as error:
        sentence = explain(error, "train", overrides)
        raise ZooError(f"{sentence.rstrip('.')} (job {title})." if title else sentence) from error


def register_jobs(folder: Path, jobs: list[Job]) -> None:
    """Checks that the jobs' folders are theirs, and writes the jobs into sweep.json. Raises ZooError."""
    from zoo.runs.provenance import versions  # imports torch, too

    for job in jobs:
        known = read_job(job.folder)
        if known.get("overrides", job.overrides) != job.overrides or (not known and (job.folder / CONFIG).exists()):
            raise ZooError(f"{job.folder} holds another run than {job.title}; name another hydra.sweep.dir.")
        if changed := changed_setting(job):
            raise ZooError(f"{job.folder} was begun with {changed}; name another hydra.sweep.dir, or delete this folder.")
        if known.get("status") == "running" and is_alive(known["pid"], job.folder):
            raise ZooError(f"{job.folder} is still being trained by process {known['pid']}, perhaps to save; wait until it has ended.")
    command = shlex.join(["python", "-m", "zoo.train", *sys.argv[1:]])
    record: dict[str, Any] = {"started": time.strftime("%Y-%m-%d %H:%M:%S")} | read_sweep(folder)
    record |= {"arguments": identity(sys.argv[1:]), "command": command, "versions": versions(), "ended": None}
    known_jobs = {job["folder"]: job for job in record["jobs"]}
    record["jobs"] = list((known_jobs | {j.folder.name: {"folder": j.folder.name, "overrides": j.overrides} for j in jobs}).values())
    records.write(folder / SWEEP, record)


def changed_setting(job: Job) -> str:
    """A setting that a job, finished or to be resumed, was begun with and that is another now (in a file of conf); "" if there is none."""
    from zoo.comparison.labels import flat, matters, text

    if state_of(job.folder) != "finished" and not has_checkpoint(job.folder):
        return ""
    old, new = flat(config_of(job.folder / CONFIG)), flat(job.settings.plain())
    for key in new:
        if key in old and old[key] != new[key] and matters(key) and not key.startswith(("pretrain.run", "trainer.precision")):
            return f"{key}={text(old[key])}, not {text(new[key])}"
    return ""


def overrides_to_start(job: Job) -> list[str]:
    """The overrides that a job's process is given now: its own, or where it goes on. Clears away what it left without a checkpoint."""
    if has_checkpoint(job.folder):  # the run keeps its settings, but for the devices that this launcher gives
        placement = (f"trainer.{name}={getattr(job.settings.trainer, name)}" for name in PLACEMENT)
        return [f"resume={quoted(job.folder)}", *placement, *job.trusted_override()]
    extra = []
    if wandb := wandb_node(job.settings.logger):
        extra = [f"logger.wandb.group={quoted(str(wandb['group']))}"]
        if known := wandb_node(config_of(job.folder / CONFIG).get("logger") or {}).get("id"):
            extra.append(f"logger.wandb.id={quoted(known)}")  # one W&B run for each job, however often it is started
    for stage in (job.folder, job.folder / PRETRAIN):
        (stage / CONFIG).unlink(missing_ok=True)
        shutil.rmtree(stage / "wandb", ignore_errors=True)
    return [*job.overrides, *extra]


def job_record(overrides: list[str], command: list[str], slots: list[Any], **more: Any) -> dict[str, Any]:
    """job.json of a job that starts: `command` is its argv, `more` what its backend finds it by again."""
    unknown = {"status": "running", "reason": "", "exit_code": None, "seconds": None}
    return {"overrides": overrides, "command": shlex.join(["python", *command[1:]]), **unknown, "slots": slots, **more}


@contextlib.contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds a sweep's folder for this process, which may ask for it again inside; makes it. Raises ZooError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(folder.resolve() / ".lock", is_singleton=True).acquire(timeout=0)
    except filelock.Timeout:
        raise ZooError(f"Another process is at work on the sweep in {folder}; wait for it, or name another hydra.sweep.dir.") from None
    with held:
        yield


def finalize_sweep(folder: Path) -> int:
    """Ends a sweep: prints the comparison of its runs and where things lie. Returns the exit code: 1 if a job is not finished."""
    from zoo.comparison.collect import compare
    from zoo.comparison.terminal import show
    from zoo.runs.wandb_files import upload_command

    record = read_sweep(folder) | {"ended": time.strftime("%Y-%m-%d %H:%M:%S")}
    records.write(folder / SWEEP, record)
    folders = [folder / job["folder"] for job in record["jobs"]]
    finished = all(read_job(job).get("status") == "finished" for job in folders)
    try:
        show(compare([folder]))
    except ZooError as error:  # a sweep over what cannot be compared, as data sets, has been trained all the same
        print(f"No table: {error}")
    print(f"runs:      {folder}/<job>/, what each printed in log.txt")
    print(f"compare:   python -m zoo.compare {folder}", flush=True)
    if upload := upload_command(folders):
        print(f"W&B:       logged offline; to upload, run: wandb login && {upload}", flush=True)
    return 0 if finished else 1
