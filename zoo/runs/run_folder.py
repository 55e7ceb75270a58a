"""What the files of a run's folder say. Nothing here imports torch."""

from pathlib import Path
from typing import Any, NamedTuple

from zoo.runs.files import config_of, is_whole, json_of
from zoo.runs.measurements import fault_of_format
from zoo.runs.results_file import DAMAGED, Found, read_cost, read_evaluation

Notes = list[str]  # sentences on what is damaged and was left out


class Folder(NamedTuple):
    """A run's folder, read; what is absent or damaged is empty."""

    path: Path
    name: str  # below what was named
    config: dict[str, Any]
    summary: dict[str, Any]
    evaluation: dict[str, Any]
    cost: dict[str, Any]
    job: dict[str, Any]
    damaged: str = ""  # why it cannot be compared: "summary.json is damaged"


def read(path: Path, root: Path, notes: Notes) -> Folder:
    """Reads a run's folder; says in `notes` which file is damaged."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else path.name
    config, damaged = {}, ""
    if (path / "config.yaml").exists():
        config = config_of(path / "config.yaml")
        damaged = "" if config else f"config.yaml {DAMAGED}"
    found: dict[str, dict[str, Any]] = {}
    for what, read_file in (("summary", _read), ("evaluation", read_evaluation), ("cost", read_cost), ("job", _read)):
        file = path / f"{what}.json"
        found[what], fault = read_file(file)
        if fault:
            damaged = damaged or (f"{file.name} {fault}" if what == "summary" else "")
            notes.append(f"{name}/{file.name} {fault} and was left out.")
    evaluated = found["evaluation"].get("images_seen")
    if found["summary"] and evaluated is not None and evaluated != found["summary"]["images_seen"]:
        notes.append(f"{name} has been trained on since it was evaluated (python -m zoo.evaluate run=RUN), so that is left out.")
        found["evaluation"] = {}
    if damaged.startswith("config.yaml"):
        notes.append(f"{name}/config.yaml is damaged, so the run was left out.")
    return Folder(path, name, config, **found, damaged=damaged)


def _read(path: Path) -> Found:
    """summary.json or job.json."""
    content = json_of(path) if path.exists() else {}
    if content and path.stem == "summary" and (fault := fault_of_format(content, "train the run again")):
        return {}, fault
    whole = content is not None and (not content or is_whole(path.stem, content))
    return (content or {}, "") if whole else ({}, DAMAGED)


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
