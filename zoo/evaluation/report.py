"""What an evaluation leaves: evaluation.json, pictures, and the table it prints."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from zoo.data.files import sha256_of, write_atomically
from zoo.engine import pictures
from zoo.engine.load import Run
from zoo.engine.report import print_metrics, shown_path, versions
from zoo.evaluation import samples
from zoo.evaluation.protocol import GROUPS
from zoo.evaluation.subject import Subject

FORMAT = 1


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file whole."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_numbers(out: Path, run: Run, subject: Subject, numbers: dict[str, float]) -> dict[str, Any]:
    """Writes evaluation.json and returns its content. The same command on the same machine writes the same bytes.

    Numbers that an earlier command measured of the same weights on the same images stay beside the new ones: a name says what
    was measured, so one name never stands for two things.
    """
    features = {} if subject.features is None else {subject.features.name: subject.features.identity()}
    content: dict[str, Any] = {
        "format": FORMAT,
        "model": run.config.model.name,
        "data": run.config.data.name,
        "command": run.command,
        "seed": run.config.seed,
        "images_seen": int(run.model.images_seen),
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "latent_dim": run.model.latent_dim,
        "measured": {
            "checkpoint_sha256": sha256_of(run.checkpoint),
            "images_sha256": subject.store.sha256,
            "split": subject.split,
            "seed": subject.seed,
        },
        "features": features,
        "metrics": numbers,
        "notes": subject.notes,
        "trained_with": run.versions,
        "versions": versions(),
    }
    path = out / "evaluation.json"
    old = json.loads(path.read_text()) if path.is_file() else {}
    same_features = all(features.get(name, known) == known for name, known in old.get("features", {}).items())
    if old.get("format") == FORMAT and old["measured"] == content["measured"] and same_features:
        content["features"] = old["features"] | features
        content["metrics"] = old["metrics"] | numbers
    content["metrics"] = dict(sorted(content["metrics"].items(), key=lambda item: list(GROUPS).index(item[0].split("/")[0])))
    write_json(path, content)
    return content


def draw(folder: Path, subject: Subject) -> None:
    """Draws samples from every prior, reconstructions and interpolations of the same images each time."""
    images = subject.batch(subject.positions(subject.split, 16)).image
    own = subject.model.prior
    for name, prior in samples.priors(subject).items():
        subject.model.prior = prior
        shown = pictures.grids(subject.model, images, subject.seed)
        pictures.save(shown.pop("samples"), folder / f"samples-{name}.png")
        if prior is own:
            for what, grid in shown.items():
                pictures.save(grid, folder / f"{what}.png")
    subject.model.prior = own


def show(out: Path, content: dict[str, Any], spent: dict[str, Any]) -> None:
    """Prints the numbers and where everything lies."""
    console = Console()
    title = f"{content['model']} on {content['data']}, {content['measured']['split']} split, {content['images_seen']:,} images seen"
    print_metrics(console, title, content["metrics"] | {name: value for name, value in spent.items() if not isinstance(value, str)})
    for network in content["features"].values():
        accuracy = f", accuracy {network['accuracy']:.4f}" if "accuracy" in network else ""
        console.print(f"features:  {network['name']}, {network['dim']} dimensions{accuracy}", highlight=False)
    for note in content["notes"]:
        console.print(f"note:      {note}", soft_wrap=True, highlight=False)
    for what, where in (("numbers", "evaluation.json"), ("cost", "cost.json"), ("pictures", "evaluation/")):
        console.print(f"{what + ':':10} {shown_path(out)}/{where}", soft_wrap=True, highlight=False)
