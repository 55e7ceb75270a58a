"""SIGTERM and Ctrl-C: finish the step, save, say how to go on, exit with 143 or 130. A second signal, a second later, exits at once.

Lightning's own handlers talk to other ranks inside the handler and end with exit code 0, as if the run had finished.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY = 16  # steps between two questions to the other ranks


class StopOnSignal(pl.Callback):
    """Remembers the first signal; the callback that saves asks `wanted`."""

    def __init__(self) -> None:
        self.received = 0
        self._at = 0.0  # when, in seconds of time.monotonic
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._install()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._restore()

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Inside, a signal is remembered, too, and nothing stops: for the evaluation after training."""
        self._install()
        try:
            yield
        finally:
            self._restore()

    def wanted(self, trainer: pl.Trainer) -> int:
        """The signal that some rank received, or 0; the same on all ranks, which is why several ask each other only now and then."""
        if trainer.world_size == 1:
            return self.received
        if trainer.global_step % AGREE_EVERY:
            return 0
        received = torch.tensor(float(self.received), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._at = number, time.monotonic()
        elif time.monotonic() - self._at > 1:  # Slurm and torchrun may send one signal twice: to all processes, and through their parents
            os._exit(128 + number)
