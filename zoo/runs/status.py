"""What has become of a run. Nothing here imports torch."""

import contextlib
import time
from pathlib import Path
from typing import Any

from zoo.runs import records
from zoo.runs.layout import CHECKPOINTS, CONFIG, LOG, METRICS, PRETRAIN, SUMMARY, config_of
from zoo.runs.run_folder import RunFolder

RECENT_SECONDS = 600  # since its files were written to, for which a run without a process that is known counts as training


def is_alive(pid: int, run: Path) -> bool:
    """Whether a process of this number works in this folder."""
    with contextlib.suppress(OSError):
        return str(run).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def state_of(run: Path) -> str:
    """What has become of a job: "finished" (training came to its end), "failed", "interrupted" (there are checkpoints), or "new"."""
    with contextlib.suppress(KeyError, TypeError):
        if is_complete(records.read(run / SUMMARY)[0], config_of(run / CONFIG)):
            return "finished"
    if records.read_job(run).get("status") == "failed":
        return "failed"
    return "interrupted" if has_checkpoint(run) else "new"


def is_complete(summary: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether training came to its own end, at max_images or before, for max_images that config.yaml has now."""
    training = summary.get("training", {"complete": False})
    return training["complete"] and training["max_images"] >= config["max_images"]


def has_checkpoint(run: Path) -> bool:
    """Whether a run can be resumed: from this stage, or from the one before it."""
    return any(any((stage / CHECKPOINTS).glob("*.ckpt")) for stage in (run, run / PRETRAIN))


def status_of(folder: RunFolder, seen: float) -> tuple[str, str]:
    """finished, training, interrupted or failed; and why, or how far it is. `seen` is the last of its log."""
    if folder.unusable:
        return "failed", f"{folder.unusable}."
    config, job = folder.config, folder.job
    if config and is_complete(folder.summary, config):
        return "finished", folder.summary["training"].get("ended", "")
    if job.get("status") == "failed":
        return "failed", str(job.get("reason") or f"It left no reason; its {LOG} may tell.")
    progress = f"{seen:,.0f} of {config['max_images']:,} images" if config else "has not begun to train"
    running = job.get("status") == "running" and is_alive(job.get("pid", 0), folder.path)
    if running or (job.get("status") in (None, "running") and written_lately(folder.path)):
        return "training", progress
    return "interrupted", progress


def written_lately(run: Path) -> bool:
    """Whether its log or a checkpoint is younger than ten minutes, those of a first stage included."""
    files = [stage / name for stage in (run, run / PRETRAIN) for name in (METRICS, LOG, CHECKPOINTS)]
    return any(file.exists() and time.time() - file.stat().st_mtime < RECENT_SECONDS for file in files)
