"""A run's folder: what is called how in it, and how its settings are written and read (JSON files: records.py). No torch.

RUN/config.yaml     settings, resolved                        RUN/summary.json     cost and last measurements of the training
RUN/metrics.csv     curves (metrics_csv.py)                   RUN/evaluation.json  what zoo.evaluate measured; RUN/cost.json its cost
RUN/checkpoints/    (checkpoint.py)                           RUN/job.json         of a job of a sweep; RUN/log.txt what it printed
RUN/pictures/       of training; RUN/evaluation/ of zoo.evaluate, RUN/generated/ of zoo.generate
RUN/pretrain/       the same of a stage that was trained first
"""

from pathlib import Path
from typing import Any

import yaml

from zoo.config.schema import TrainSettings
from zoo.errors import ZooError
from zoo.files import write_atomically

FORMAT = 3  # of configurations and checkpoints; raised with any change that this version cannot read
RESULTS_FORMAT = 2  # of measurements and what they are written with: summary.json, evaluation.json, published rows
CONFIG, SUMMARY, METRICS, JOB, LOG = "config.yaml", "summary.json", "metrics.csv", "job.json", "log.txt"
EVALUATION, COST, SWEEP = "evaluation.json", "cost.json", "sweep.json"
CHECKPOINTS, PICTURES, PRETRAIN = "checkpoints", "pictures", "pretrain"


def write_config(settings: TrainSettings, run: Path) -> None:
    """Writes config.yaml; makes the folder."""
    run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"format": FORMAT} | settings.plain(), sort_keys=False, allow_unicode=True)
    write_atomically(run / CONFIG, text)


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
