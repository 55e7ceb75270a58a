"""A run's folder: what is called how in it, and how its settings and its JSON files are written and read. Nothing here imports torch.

RUN/config.yaml     settings, resolved                        RUN/summary.json     cost and last measurements of the training
RUN/metrics.csv     curves (metrics_csv.py)                   RUN/evaluation.json  what zoo.evaluate measured; RUN/cost.json its cost
RUN/checkpoints/    (checkpoint.py)                           RUN/job.json         of a job of a sweep; RUN/log.txt what it printed
RUN/pictures/       of training; RUN/evaluation/ of zoo.evaluate, RUN/generated/ of zoo.generate
RUN/pretrain/       the same of a stage that was trained first
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import yaml

from zoo.config.schema import TrainSettings
from zoo.errors import ZooError
from zoo.files import write_atomically
from zoo.runs.measurements import Measurement, by_flat_name, measurements_of

FORMAT = 2  # of a run's files; raised with any change that this version cannot read
CONFIG, SUMMARY, METRICS, JOB, LOG = "config.yaml", "summary.json", "metrics.csv", "job.json", "log.txt"
EVALUATION, COST, SWEEP = "evaluation.json", "cost.json", "sweep.json"
CHECKPOINTS, PICTURES, PRETRAIN = "checkpoints", "pictures", "pretrain"

# What summary.json says of a training; a number may be null where it is not known.
NUMBERS = ("images_seen", "parameters", "images_per_second", "train_hours", "device_hours", "devices", "peak_memory_mib")
TEXTS = ("accelerator", "precision", "machine")


def write_config(settings: TrainSettings, run: Path) -> None:
    """Writes config.yaml; makes the folder."""
    run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"format": FORMAT} | settings.plain(), sort_keys=False, allow_unicode=True)
    write_atomically(run / CONFIG, lambda file: file.write(text.encode()))


def read_config(run: Path) -> dict[str, Any]:
    """The settings in config.yaml as plain data. Raises ZooError if it is damaged or of another format."""
    config = config_of(run / CONFIG)
    if not config:
        raise ZooError(f"{run}/{CONFIG} is damaged; restore it from a copy, or train anew.")
    check_format(config.pop("format", 1), f"The run {run}")
    return config


def check_format(number: Any, what: str) -> None:
    """Raises ZooError for a run or checkpoint that another version has written."""
    if number != FORMAT:
        older = isinstance(number, int) and number < FORMAT
        raise ZooError(
            f"{what} is of format {number}, and this version reads format {FORMAT}; "
            f"{'train it anew, or use the older version that wrote it' if older else 'update the zoo'}."
        )


def config_of(path: Path) -> dict[str, Any]:
    """config.yaml with its format; empty if it is missing, damaged or another program's."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_bytes(), loader)
    except (yaml.YAMLError, ValueError, OSError):
        return {}
    if not isinstance(content, dict) or not all(isinstance(content.get(name), int) for name in ("max_images", "batch_size", "seed")):
        return {}
    named_parts = all(isinstance(content.get(part), dict) and "name" in content[part] for part in ("model", "data"))
    return content if named_parts else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def fault_of_format(content: dict[str, Any], advice: str) -> str:
    """ "is of format 1, not 2 (ADVICE)" where summary.json or evaluation.json is of another format; otherwise ""."""
    found = content.get("format", 1)
    return "" if found == FORMAT else f"is of format {found}, not {FORMAT} ({advice})"


def read_summary(run: Path) -> dict[str, Any]:
    """summary.json; empty if there is none. Raises ZooError if it is damaged."""
    content = read_json(run / SUMMARY)
    if not content and (run / SUMMARY).exists():
        raise ZooError(f"{run / SUMMARY} is damaged; remove it, and resume={run} writes it anew.")
    return content


def read_metrics(run: Path) -> dict[str, float]:
    """What a run logged last and what was measured at its end, by flat names, from its summary.json; empty if there is none."""
    summary = read_json(run / SUMMARY)
    return summary.get("metrics", {}) | by_flat_name(map(Measurement.from_dict, summary.get("measurements", [])))


def is_whole(what: str, content: dict[str, Any]) -> bool:
    """Whether summary.json or job.json has what is read from it, in the shape that is expected."""
    if what == "job":
        overrides = content.get("overrides", [])
        return isinstance(overrides, list) and all(isinstance(override, str) for override in overrides)
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
    training = content.get("training")
    if not isinstance(training, dict) or not is_number(training.get("max_images")) or type(training.get("complete")) is not bool:
        return False
    texts = {name: content[name] for name in (*TEXTS, "command") if content.get(name) is not None}
    numbers = [content[name] for name in NUMBERS if content.get(name) is not None]
    return type(content.get("seed")) is int and is_texts(texts) and all(map(is_number, numbers))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
