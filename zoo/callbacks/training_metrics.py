"""Logs the same names for all models: loss terms, learning rates, gradient norms, images/s, peak memory."""

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch

from zoo.callbacks.clock import Pauses, images_seen, is_due
from zoo.errors import ZooError
from zoo.hardware import peak_memory_mib
from zoo.models.base import REMEDY


class TrainingMetricsLogger(pl.Callback):
    """Sums the loss terms on the device and fetches their means every `every` images: one host sync an interval.

    Stops training with a sentence as soon as a loss is not finite, or nothing moves any more.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.latest: dict[str, float] = {}  # for the progress bar
        self.train_seconds = 0.0  # over all sessions of the run; kept in the checkpoint
        self._sums: torch.Tensor | None = None
        self._steps = 0
        self._mark: float | None = None  # when the interval began, at which image, and the pauses until then
        self._first, self._paused = 0, 0.0
        self._learning_rates: list[float] = []  # of the step at hand, by parameter group: its scheduler has moved on when it is logged

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._mark is None:
            self._mark, self._first, self._paused = time.perf_counter(), images_seen(trainer, pl_module), Pauses.seconds
        self._learning_rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        pl_module.log_gradient_norms = images_seen(trainer, pl_module) % self.every + pl_module.training_config.batch_size >= self.every

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        whole = {"loss": trainer.accumulate_grad_batches}  # Lightning hands out the part of the loss that was accumulated
        terms = torch.stack([value.detach().float() * whole.get(name, 1) for name, value in outputs.items()])
        self._sums = terms if self._sums is None else self._sums.add_(terms)
        self._steps += 1
        if is_due(trainer, pl_module, self.every):
            self._log(trainer, pl_module, list(outputs))

    def _log(self, trainer: pl.Trainer, model: Any, names: list[str]) -> None:
        assert self._sums is not None
        means = (trainer.strategy.reduce(self._sums, reduce_op="mean") / self._steps).tolist()
        seconds = self._seconds()
        seen = images_seen(trainer, model)
        rate = (seen - self._first) / seconds
        self.train_seconds += seconds
        metrics = {f"train/{name}": mean for name, mean in zip(names, means, strict=True)}
        for group, learning_rate in zip(trainer.optimizers[0].param_groups, self._learning_rates, strict=True):
            metrics[f"train/learning_rate/{group['name']}"] = float(learning_rate)
        for group_name, norm in model.gradient_norms.items():
            metrics[f"train/gradient_norm/{group_name}"] = norm.item()
        metrics |= {"train/images_per_second": rate, "train/peak_memory_mib": peak_memory_mib(model.device)}
        self.latest = metrics
        log(trainer, seen, metrics)
        self._sums, self._steps, self._mark = None, 0, None
        if not all(math.isfinite(mean) for mean in means):
            bad = ", ".join(name for name, mean in zip(names, means, strict=True) if not math.isfinite(mean))
            raise ZooError(f"Training diverged before {seen:,} images: {bad} is not finite; {REMEDY}")
        if model.gradient_norms and not any(norm.item() for norm in model.gradient_norms.values()):
            raise ZooError(
                f"Training is stuck since before {seen:,} images: all gradients are exactly 0, as where a tanh output or all ReLUs are "
                f"saturated; start anew with a longer scheduler.warmup (0.2) or a lower optimizer.lr."
            )

    def _seconds(self) -> float:
        """Spent training since the interval began."""
        return 0.0 if self._mark is None else time.perf_counter() - self._mark - (Pauses.seconds - self._paused)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A resumed run's log goes on in the middle of an interval, too; called on all ranks."""
        sums = None if self._sums is None else trainer.strategy.reduce(self._sums.clone(), reduce_op="mean").tolist()
        checkpoint["training_metrics"] = {"train_seconds": self.train_seconds + self._seconds(), "sums": sums, "steps": self._steps}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["training_metrics"]
        self.train_seconds, self._steps = state["train_seconds"], state["steps"]
        self._sums = None if state["sums"] is None else torch.tensor(state["sums"], device=pl_module.device)


def log(trainer: pl.Trainer, seen: int, metrics: dict[str, float]) -> None:
    """Sends metrics to all loggers, as those of the optimizer step just taken, which Lightning counts from 0; and to callbacks.

    `self.log` would do the same, and cost up to 1 ms a name on a CPU.
    """
    for logger in trainer.loggers:
        logger.log_metrics({"images_seen": seen, **metrics}, step=trainer.global_step - 1)
    trainer.callback_metrics.update({name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})
