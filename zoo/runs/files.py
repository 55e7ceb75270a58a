"""A run's folder: what is called how, and how its small files are written and read."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from zoo import hardware
from zoo.files import write_atomically
from zoo.runs.measurements import Measurement, by_flat_name, measurements_of

FOLDER = "pretrain"  # of the stage that is trained here, inside the run's


def read_metrics(folder: Path) -> dict[str, float]:
    """What a run logged last and what was measured at its end, by flat names, from its summary.json; empty if there is none."""
    summary = read_json(folder / "summary.json")
    return summary.get("metrics", {}) | by_flat_name(map(Measurement.from_dict, summary.get("measurements", [])))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else {}
    return {}


def save_settings(config: DictConfig, folder: Path) -> None:
    """Writes config.yaml, resolved; on the first process."""
    if hardware.is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        text = OmegaConf.to_yaml(config, resolve=True)
        write_atomically(folder / "config.yaml", lambda file: file.write(text.encode()))


# What summary.json says of a training; a number may be null where it is not known.
NUMBERS = ("images_seen", "parameters", "images_per_second", "train_hours", "device_hours", "devices", "peak_memory_mib")


TEXTS = ("accelerator", "precision", "machine")


def json_of(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    return content if isinstance(content, dict) else None


def is_whole(what: str, content: dict[str, Any]) -> bool:
    """Whether summary.json or job.json has what is read from it, in the shape that is expected."""
    if what == "job":
        told = content.get("overrides", [])
        return isinstance(told, list) and all(isinstance(override, str) for override in told)
    if not is_number(content.get("images_seen")) or not isinstance(content.get("metrics"), dict):
        return False
    if not is_texts(content.get("versions", {})):
        return False
    try:
        measurements_of(content)
    except ValueError:
        return False
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
