"""What W&B has left in runs to be uploaded."""

import shlex
from pathlib import Path
from typing import Any

from zoo.runs.layout import PRETRAIN


def wandb_node(logger: dict[str, Any]) -> dict[str, Any]:
    """The settings of W&B among those of a run's loggers; empty if it does not log there."""
    node = logger.get("wandb")
    return node if isinstance(node, dict) else {}


def upload_command(runs: list[Path]) -> str:
    """What uploads those of these runs, with their first stages, that were logged offline and not uploaded yet; "" if there are none."""
    waiting: dict[Path, list[str]] = {}  # by run: where its logs lie
    for run in runs:
        for stage in ("wandb", f"{PRETRAIN}/wandb"):
            logs = run.glob(f"{stage}/offline-run-*/*.wandb")
            if any(not log.with_name(f"{log.name}.synced").exists() for log in logs):  # the mark that wandb sync leaves
                waiting.setdefault(shown_path(run), []).append(stage)
    if not waiting:
        return ""
    parents = {run.parent for run in waiting}
    if len(waiting) > 1 and len(parents) == 1:
        stages = sorted({stage for found in waiting.values() for stage in found}, reverse=True)
        patterns = [f"{shlex.quote(str(parent))}/*/{stage}" for parent in parents for stage in stages]
    else:
        patterns = [f"{shlex.quote(str(run))}/{stage}" for run, found in waiting.items() for stage in found]
    return " ".join(["wandb sync", *(f"{pattern}/offline-run-*" for pattern in patterns)])


def shown_path(run: Path) -> Path:
    """The path as seen from here, if it lies below."""
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
