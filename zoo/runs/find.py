"""Which folder is meant: the newest run, the newest sweep, the runs below a folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from zoo.config.overrides import runs_folder
from zoo.errors import ZooError
from zoo.runs.layout import CONFIG, JOB, PRETRAIN, config_of


def find_run(name: str, runs: Path | None = None, option: str = "resume") -> Path:
    """A run's folder, or for "latest" the newest one below `runs` ($ZOO_RUNS), by the date and time in its path."""
    runs = runs or runs_folder()
    if name == "latest":
        found = [path.parent for path in runs.glob(f"*/*/{CONFIG}")]
        found = sorted(run for run in found if not (run.parent / CONFIG).exists())  # a first stage belongs to its run
        if not found:
            raise ZooError(f"{option}=latest found no run below {runs}/; start one with python -m zoo.train, or name its folder.")
        return found[-1].resolve()
    run = Path(name)
    if not (run / CONFIG).is_file():
        raise ZooError(f"{option}={name} is not a run's folder: it has no config.yaml; name a folder below runs/, or {option}=latest.")
    return run.resolve()


def named(paths: Sequence[str | Path]) -> list[Path]:
    """The folders that are meant. Raises ZooError for what is no folder."""
    if not paths:
        raise ZooError("Name what to compare: runs, sweeps or folders above them, as in python -m zoo.compare runs/sweeps/…, or latest.")
    found = [newest_sweep() if str(path) == "latest" else Path(path).expanduser() for path in paths]
    for path in found:
        if not path.is_dir():
            raise ZooError(f"{path} is not a folder; name a run, a sweep or a folder above runs.")
    return found


def common(folders: list[Path]) -> Path:
    """The folder that they all lie in, or the only one."""
    return Path(os.path.commonpath([path.resolve() for path in folders]))


def find(folders: list[Path]) -> list[Path]:
    """The runs there, by name: folders with a run's config.yaml, or with job.json of a sweep. A first stage belongs to its run.

    Raises ZooError for a folder without any.
    """
    runs: dict[Path, None] = {}
    for path in folders:
        below = runs_below(path)
        if not below:
            raise ZooError(f"{path} holds no run: there is no config.yaml in it or below; name a run, a sweep or a folder above runs.")
        runs |= dict.fromkeys(below)
    return list(runs)


def runs_below(path: Path) -> list[Path]:
    """The folders of runs from here on, by name, resolved.

    A config.yaml that no run wrote is another program's where runs lie below it, and otherwise that of a damaged run.
    """
    here = path.resolve()
    _, folders, files = next(os.walk(here), ("", [], []))  # nothing of a folder that must not be read
    has_config = CONFIG in files
    if JOB in files or (has_config and config_of(here / CONFIG)):
        return [here]
    below = [here / name for name in sorted(folders) if not name.startswith(".") and not (has_config and name == PRETRAIN)]
    runs = [run for folder in below if not folder.is_symlink() for run in runs_below(folder)]
    return runs or ([here] if has_config else [])


def newest_sweep() -> Path:
    """The newest sweep below $ZOO_RUNS, by the date and time in its path. Raises ZooError if there is none."""
    runs = runs_folder()
    found = sorted(path for path in (runs / "sweeps").glob("*/*") if path.is_dir())
    if not found:
        raise ZooError(f"latest found no sweep below {runs / 'sweeps'}/; start one with python -m zoo.train -m, or name a folder.")
    return found[-1]
