"""Folders of runs, written by hand: what zoo.train and zoo.evaluate would leave."""

import json
import os
import time
from pathlib import Path

from zoo.comparison.aggregate import numbers_of, select
from zoo.comparison.parts import Row
from zoo.evaluation.descriptors import METRICS
from zoo.runs.layout import FORMAT, RESULTS_FORMAT
from zoo.runs.measurements import Measurement, Quantity

SHA = "ab" * 32

SUMMARY = {  # as little as summary.json may hold
    "format": RESULTS_FORMAT,
    "seed": 0,
    "images_seen": 1,
    "training": {"max_images": 1, "complete": True},
    "metrics": {},
    "measurements": [],
}


def quantity(name: str) -> Quantity:
    """What "samples/normal/frechet", "best_prior/recall", "attributes/success" or "mse" names: short for tests, which write many."""
    group, *parts = name.split("/")
    if group not in (*METRICS, "best_prior"):
        return Quantity("", name)
    prior = parts.pop(0) if group == "samples" else None
    metric = parts[0].removesuffix("_inception")
    uses_features = METRICS["samples" if group == "best_prior" else group][metric].uses_features
    features = ("inception" if parts[0] != metric else "classifier") if uses_features else None
    return Quantity(group, metric, features, prior, *parts[1:])


def seeds(row: Row, what: Quantity | str) -> list[float]:
    """The number of each seed of a row; a text names a cost."""
    return list(select(numbers_of([row]), Quantity("cost", what) if isinstance(what, str) else what).value)


def records(numbers: dict[str, float], split: str = "test") -> list[dict]:
    """Measurements as JSON has them, from names like "samples/normal/frechet@2000"."""
    found = []
    for name, value in numbers.items():
        plain, _, n = name.partition("@")
        group, metric, features, prior, item = quantity(plain)
        found.append(Measurement(group, metric, value, split, int(n or 10_000), prior, features, item).to_dict())
    return found


def make_run(
    path: Path,
    model: str = "vae",
    seed: int = 0,
    overrides: str = "",
    config: dict | None = None,
    metrics: dict | None = None,
    evaluation: dict | None = None,
    seen: int = 1000,
    rows: int = 4,
    summary: dict | None = None,
    **settings,
) -> Path:
    """A finished run of 1,000 images on 64×64 faces.

    `settings` are entries of the model; `config` goes over config.yaml, `metrics` into summary.json, those of the
    protocol as measurements, the others with "val/" (None = no summary.json), `evaluation` over evaluation.json (None = no such file; its
    `metrics` become its measurements).
    """
    path.mkdir(parents=True)
    source = {"_target_": "zoo.data.faces.dataset.Faces", "image_size": 64, "train": 20000, "val": 2000, "test": 10000, "seed": 0}
    data = {"name": "faces", "image_size": 64, "flip": True, "cache": f"/cache/{seed}", "source": source}
    whole = {
        "format": FORMAT,
        "data": data,
        "seed": seed,
        "batch_size": 10,
        "max_images": 1000,
        "log_every_images": 10 + seed,
        "model": {"name": model, "_target_": f"zoo.models.{model}.X", "latent_dim": 32, **settings},
        "logger": {"wandb": {"id": f"id{seed}"}},
        "optimizer": {"lr": 0.002},
        "trainer": {"devices": 1, "precision": "32-true"},
        "pretrain": {"run": None},
    }
    for key, value in (config or {}).items():
        whole[key] = whole[key] | value if isinstance(value, dict) else value
    (path / "config.yaml").write_text(json.dumps(whole, indent=1))  # JSON is YAML
    command = " ".join(filter(None, [f"python -m zoo.train model={model} seed={seed}", overrides]))
    if metrics is not None:
        measured = {name: value for name, value in metrics.items() if name.split("/")[0] in METRICS}
        about = {
            "format": RESULTS_FORMAT,
            "model": model,
            "data": whole["data"]["name"],
            "seed": seed,
            "command": command,
            "split": "val",
            "metrics": {f"val/{name}": value for name, value in metrics.items() if name not in measured},
            "measurements": records(measured, "val"),
            "training": {"max_images": whole["max_images"], "complete": True},
            "images_seen": seen,
            "parameters": 1_500_000,
            "images_per_second": 100.0,
            "train_hours": 0.5,
            "device_hours": 0.5,
            "devices": 1,
            "accelerator": "cpu",
            "versions": {"zoo": "0.1.0", "commit": "abc"},
        }
        (path / "summary.json").write_text(json.dumps(about | (summary or {})))
    if evaluation is not None:
        features = {"classifier": {"name": "classifier", "sha256": "f" * 64, "image_size": 64}}
        found = {"format": RESULTS_FORMAT, "data": whole["data"]["name"], "seed": seed, "images_seen": seen, "features": features}
        found["measured"] = {"images_sha256": SHA, "split": "test", "seed": 0}
        for key, value in evaluation.items():
            found[key] = found[key] | value if key == "measured" else value
        found["measurements"] = records(found.pop("metrics"))
        (path / "evaluation.json").write_text(json.dumps(found))
        (path / "cost.json").write_text(json.dumps({"train/devices": 1, "sampling/images_per_second": 50.0, "machine": "x"}))
    if rows:
        write_log(path, [((k + 1) * seen // rows, 1.0 / (k + 1)) for k in range(rows)])
    return path


def write_log(path: Path, rows: list[tuple[int, float]], rate: float = 100.0) -> None:
    lines = ["images_seen,train/loss,train/images_per_second,val/mse"]
    lines += [f"{seen},{loss},{rate}," for seen, loss in rows]
    (path / "metrics.csv").write_text("\n".join(lines) + "\n")


def age(path: Path, seconds: float = 3600) -> None:
    """Makes everything in a run that old."""
    for file in [path, *path.rglob("*")]:
        os.utime(file, (time.time() - seconds,) * 2)
