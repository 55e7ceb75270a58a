"""What has become of a run."""

import contextlib
import time
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.runs.files import FOLDER, read_json
from zoo.runs.run_folder import Folder


def is_alive(pid: int, folder: Path) -> bool:
    """Whether a process of this number works in this folder."""
    with contextlib.suppress(OSError):
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def state_of(folder: Path) -> str:
    """What has become of a job: "finished" (training came to its end), "failed", "interrupted" (there are checkpoints), or "new"."""
    with contextlib.suppress(OSError, KeyError, TypeError, OmegaConfBaseException, ValueError, yaml.YAMLError):
        config: Any = OmegaConf.load(folder / "config.yaml")
        if is_complete(read_json(folder / "summary.json"), config):
            return "finished"
    if read_json(folder / "job.json").get("status") == "failed":
        return "failed"
    return "interrupted" if has_checkpoint(folder) else "new"


def is_complete(summary: dict[str, Any], config: Any) -> bool:
    """Whether training came to its own end, at the budget or before, for the budget that it has now.

    Args:
        summary: A run's summary.json.
        config: Its config.yaml: budget, batch_size.
    """
    if "training" in summary:
        return summary["training"]["complete"] and summary["training"]["budget"] >= config["budget"]
    return summary.get("images_seen", -1) > config["budget"] - config["batch_size"]  # of an older version


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed: from this stage, or from the one before it."""
    return any(folder.glob("checkpoints/*.ckpt")) or any(folder.glob("pretrain/checkpoints/*.ckpt"))


RECENT = 600  # seconds since its files were written to, for which a run without a process that is known counts as training


def status_of(folder: Folder, seen: float) -> tuple[str, str]:
    """finished, training, interrupted or failed; and why, or how far it is. `seen` is the last of its log."""
    if folder.damaged:
        return "failed", f"{folder.damaged}."
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
