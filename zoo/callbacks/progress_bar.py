"""The progress bar: images, images/s, the main losses, time left. Without a terminal: one line every `quiet_seconds`."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.callbacks.clock import images_seen
from zoo.callbacks.training_metrics import TrainingMetricsLogger


class ProgressLine(pl.callbacks.ProgressBar):
    """Shows what TrainingMetricsLogger fetched last, so it costs no host sync of its own."""

    def __init__(self, training_metrics: TrainingMetricsLogger, max_images: int, quiet_seconds: float = 30) -> None:
        super().__init__()
        self.training_metrics, self.max_images, self.quiet_seconds = training_metrics, max_images, quiet_seconds
        self.progress: Progress | None = None
        self._shown = 0.0
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self._enabled:
            (self.progress.console.print if self.progress else print)(*args)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        seen = images_seen(trainer, pl_module)
        if not self._enabled:
            return
        progress = Progress(
            TextColumn("{task.completed:>9,.0f} of {task.total:,.0f} images"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            refresh_per_second=2,
        )
        if progress.console.is_terminal:
            self.progress = progress
            self.task = progress.add_task("", total=self.max_images, completed=seen)
            progress.start()
        self._shown = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self._enabled:
            return
        now = time.perf_counter()
        if now - self._shown < (0.5 if self.progress else self.quiet_seconds):
            return
        self._shown = now
        seen, latest = images_seen(trainer, pl_module), self.training_metrics.latest
        rate = latest.get("train/images_per_second")
        parts = [f"{rate:,.0f} images/s"] if rate else []
        losses = [name for name in latest if name.count("/") == 1 and name not in ("train/images_per_second", "train/peak_memory_mib")]
        parts += [f"{name.removeprefix('train/')} {latest[name]:.4g}" for name in losses[:3]]
        if self.progress:
            self.progress.update(self.task, completed=seen, description="  ".join(parts))
        else:
            left = f"{(self.max_images - seen) / rate / 60:.1f} min left" if rate else ""
            print(f"{seen:,} of {self.max_images:,} images  " + "  ".join([*parts, left]), flush=True)

    def _stop(self) -> None:
        if self.progress:
            self.progress.stop()
            self.progress = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.progress:
            self.progress.update(self.task, completed=images_seen(trainer, pl_module))
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._stop()
