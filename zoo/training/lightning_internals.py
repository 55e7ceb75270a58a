"""The one place that uses what Lightning does not promise, with the reason; last looked at in version 2.6.6."""

from typing import Any

import pytorch_lightning as pl


def switch_off_sigterm_broadcast(trainer: pl.Trainer) -> None:
    """Lightning asks all ranks for a SIGTERM before each batch and waits for the answer; StopOnSignal asks every few steps.

    No option turns that off.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None
