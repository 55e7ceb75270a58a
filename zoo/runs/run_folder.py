"""What the files of a run's folder say. Nothing here imports torch."""

from pathlib import Path
from typing import Any, NamedTuple

from zoo.runs import records
from zoo.runs.layout import CONFIG, FORMAT, PICTURES, config_of
from zoo.runs.records import DAMAGED, Found

Notes = list[str]  # sentences on what is damaged and was left out


class RunFolder(NamedTuple):
    """A run's folder, read; what is absent or damaged is empty."""

    path: Path
    name: str  # below what was named
    config: dict[str, Any]
    summary: dict[str, Any]
    evaluation: dict[str, Any]
    cost: dict[str, Any]
    job: dict[str, Any]
    unusable: str = ""  # why it cannot be compared: "summary.json is damaged"


def read_run(path: Path, root: Path, notes: Notes) -> RunFolder:
    """Reads a run's folder; says in `notes` which file is damaged or of another format."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else path.name
    config, fault = read_settings(path)
    unusable = f"{CONFIG} {fault}" if fault else ""
    if fault:
        notes.append(f"{name}/{unusable}, so the run was left out.")
    found: dict[str, dict[str, Any]] = {}
    for what in ("summary", "evaluation", "cost", "job"):
        file = path / f"{what}.json"
        found[what], fault = records.read(file)
        if fault:
            unusable = unusable or (f"{file.name} {fault}" if what == "summary" else "")
            notes.append(f"{name}/{file.name} {fault} and was left out.")
    evaluated = found["evaluation"].get("images_seen")
    if found["summary"] and evaluated is not None and evaluated != found["summary"]["images_seen"]:
        notes.append(f"{name} has been trained on since it was evaluated (python -m zoo.evaluate run=RUN), so that is left out.")
        found["evaluation"] = {}
    return RunFolder(path, name, config, **found, unusable=unusable)


def read_settings(run: Path) -> Found:
    """config.yaml."""
    config = config_of(run / CONFIG)
    if not config:
        return {}, DAMAGED if (run / CONFIG).exists() else ""
    fault = records.fault_of_format(config, "train the run again", FORMAT)
    return ({}, fault) if fault else ({key: value for key, value in config.items() if key != "format"}, "")


def image_files_of(folder: RunFolder, split: str, prior: str) -> dict[str, Path]:
    """The newest picture of each kind: those of training, and over them those of the test split where it is compared.

    Samples are those from `prior`.
    """
    found: dict[str, Path] = {}
    for path in sorted((folder.path / PICTURES).glob("*-*.png")):  # by images seen, which have leading zeros
        found[path.stem.rpartition("-")[0]] = path
    if split == "test":
        for path in sorted((folder.path / "evaluation").glob("*.png")):
            found[path.stem] = path
        if f"samples-{prior}" in found:
            found["samples"] = found[f"samples-{prior}"]
    return {name: path for name, path in found.items() if not name.startswith("samples-")}
