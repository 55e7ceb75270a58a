"""The runs below what was named, and what the files of each one say. Nothing here imports torch."""

import csv
import json
import math
import os
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from zoo.comparison.settings import described
from zoo.engine.sweep import is_alive, is_complete
from zoo.errors import ZooError

# What summary.json says of a training; a number may be null where it is not known.
NUMBERS = ("images_seen", "parameters", "images_per_second", "train_hours", "device_hours", "devices", "peak_memory_mib")
TEXTS = ("accelerator", "precision", "machine")
FOLDER = "pretrain"  # of a first stage, inside its run's
RECENT = 600  # seconds since its files were written to, for which a run without a process that is known counts as training
Notes = list[str]


class Folder(NamedTuple):
    """A run's folder, read; what is absent or damaged is empty."""

    path: Path
    name: str  # below what was named
    config: dict[str, Any]
    summary: dict[str, Any]
    evaluation: dict[str, Any]
    cost: dict[str, Any]
    job: dict[str, Any]
    damaged: str = ""  # the file without which it cannot be compared


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
    has_config = "config.yaml" in files
    if "job.json" in files or (has_config and config_of(here / "config.yaml")):
        return [here]
    below = [here / name for name in sorted(folders) if not name.startswith(".") and not (has_config and name == FOLDER)]
    runs = [run for folder in below if not folder.is_symlink() for run in runs_below(folder)]
    return runs or ([here] if has_config else [])


def newest_sweep(runs: Path = Path("runs")) -> Path:
    """The newest sweep below `runs`, by the date and time in its path. Raises ZooError if there is none."""
    found = sorted(path for path in (runs / "sweeps").glob("*/*") if path.is_dir())
    if not found:
        raise ZooError(f"latest found no sweep below {runs / 'sweeps'}/; start one with python -m zoo.train -m, or name a folder.")
    return found[-1]


def read(path: Path, root: Path, notes: Notes) -> Folder:
    """Reads a run's folder; says in `notes` which file is damaged."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else path.name
    config, damaged = {}, ""
    if (path / "config.yaml").exists():
        config = config_of(path / "config.yaml")
        damaged = "" if config else "config.yaml"
    found: dict[str, dict[str, Any]] = {}
    for what in ("summary", "evaluation", "cost", "job"):
        file = path / f"{what}.json"
        content = json_of(file) if file.exists() else {}
        if content is None or (content and not is_whole(what, content)):
            damaged = damaged or (file.name if what == "summary" else "")
            notes.append(f"{name}/{file.name} is damaged and was left out.")
            content = {}
        found[what] = content
    evaluated = found["evaluation"].get("images_seen")
    if found["summary"] and evaluated is not None and evaluated != found["summary"]["images_seen"]:
        notes.append(f"{name} has been trained on since it was evaluated (python -m zoo.evaluate run=RUN), so that is left out.")
        found["evaluation"] = {}
    if damaged == "config.yaml":
        notes.append(f"{name}/config.yaml is damaged, so the run was left out.")
    return Folder(path, name, described(config, found["summary"]), **found, damaged=damaged)


def json_of(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    return content if isinstance(content, dict) else None


def is_whole(what: str, content: dict[str, Any]) -> bool:
    """Whether summary.json, evaluation.json, cost.json or job.json has what is read from it, in the shape that is expected."""
    if what == "job":
        told = content.get("overrides", [])
        return isinstance(told, list) and all(isinstance(override, str) for override in told)
    if what == "cost":
        return all(value is None or isinstance(value, str) or is_number(value) for value in content.values())
    if not is_number(content.get("images_seen")) or not isinstance(content.get("metrics"), dict):
        return False
    if not is_texts(content.get("versions", {})):
        return False
    if what == "evaluation":
        return True
    earlier = content.get("pretrain", {})
    if not isinstance(earlier, dict) or not all(is_number(earlier.get(name, 0)) for name in ("images_seen", "train_hours")):
        return False
    training = content.get("training", {"budget": 0})  # which older runs lack
    if not isinstance(training, dict) or not is_number(training.get("budget")) or type(training.get("complete", False)) is not bool:
        return False
    texts = {name: content[name] for name in (*TEXTS, "command") if content.get(name) is not None}
    numbers = [content[name] for name in NUMBERS if content.get(name) is not None]
    return type(content.get("seed")) is int and is_texts(texts) and all(map(is_number, numbers))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def config_of(path: Path) -> dict[str, Any]:
    """config.yaml; empty if it is damaged or another program's."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_bytes(), loader)
    except (yaml.YAMLError, ValueError, OSError):
        return {}
    if not isinstance(content, dict) or not all(isinstance(content.get(name), int) for name in ("budget", "batch_size", "seed")):
        return {}
    named_parts = all(isinstance(content.get(part), dict) and "name" in content[part] for part in ("model", "data"))
    return content if named_parts else {}


def curves_of(folder: Folder, notes: Notes) -> dict[str, list[float]]:
    """metrics.csv by column, nan where nothing was measured, and `hours`; columns with fewer than two numbers are no curves.

    Hours are those of training: validation, pictures and checkpoints are not counted. Those of an earlier stage are.
    """
    path = folder.path / "metrics.csv"
    try:
        written = path.read_text(encoding="utf-8")
        header, *lines = csv.reader(written[: written.rfind("\n") + 1].splitlines())  # the last line may be torn: the run was writing it
        texts = {name: column for name, *column in zip(header, *lines, strict=True)}
        told = {name for name, column in texts.items() if len(column) - column.count("") > 1} | {"images_seen"}
        curves = {name: [float(text) if text else math.nan for text in texts[name]] for name in texts if name in told}
        seen = curves["images_seen"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, OSError, csv.Error):
        notes.append(f"{folder.name}/metrics.csv is damaged and was left out.")
        return {}
    earlier = folder.summary.get("pretrain", {})
    rates = curves.get("train/images_per_second", [])
    if seen and (rate := next((rate for rate in rates if rate > 0), None)):
        hours, before = [earlier.get("train_hours", 0.0)], earlier.get("images_seen", 0)
        for images, now in zip(seen, rates, strict=True):
            rate = now if now > 0 else rate  # rows of validation alone have none
            hours.append((images - before) / rate / 3600)
            before = images
        curves["hours"] = list(accumulate(hours))[1:]
    return curves


def pictures_of(folder: Folder, split: str, prior: str) -> dict[str, Path]:
    """The newest picture of each kind: those of training, and over them those of the test split where it is compared.

    Samples are those from `prior`.
    """
    found: dict[str, Path] = {}
    for path in sorted((folder.path / "pictures").glob("*-*.png")):  # by images seen, which have leading zeros
        found[path.stem.rpartition("-")[0]] = path
    if split == "test":
        for path in sorted((folder.path / "evaluation").glob("*.png")):
            found[path.stem] = path
        if f"samples-{prior}" in found:
            found["samples"] = found[f"samples-{prior}"]
    return {name: path for name, path in found.items() if not name.startswith("samples-")}


def of_one_split(pictures: list[dict[str, Path]]) -> list[dict[str, Path]]:
    """The pictures of runs without those of training, of each kind that an evaluation has drawn for one of them: they show other images."""
    drawn = {kind for own in pictures for kind, path in own.items() if path.parent.name == "evaluation"}
    return [{kind: path for kind, path in own.items() if kind not in drawn or path.parent.name == "evaluation"} for own in pictures]


def status_of(folder: Folder, seen: float) -> tuple[str, str]:
    """finished, training, interrupted or failed; and why, or how far it is. `seen` is the last of its log."""
    if folder.damaged:
        return "failed", f"{folder.damaged} is damaged."
    config, job = folder.config, folder.job
    if config and is_complete(folder.summary, config):
        return "finished", ""
    if job.get("status") == "failed":
        return "failed", str(job.get("reason") or "It left no reason; its log.txt may tell.")
    progress = f"{seen:,.0f} of {config['budget']:,} images" if config else "has not begun to train"
    running = job.get("status") == "running" and is_alive(job.get("pid", 0), folder.path)
    if running or (job.get("status") in (None, "running") and written_lately(folder.path)):
        return "training", progress
    return "interrupted", progress


def written_lately(run: Path) -> bool:
    """Whether its log or a checkpoint is younger than ten minutes, those of a first stage included."""
    files = [stage / name for stage in (run, run / FOLDER) for name in ("metrics.csv", "log.txt", "checkpoints")]
    return any(file.exists() and time.time() - file.stat().st_mtime < RECENT for file in files)
