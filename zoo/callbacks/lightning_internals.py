"""The one place that uses what Lightning does not promise, with the reasons; last looked at in version 2.6.6."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger


def switch_off_sigterm_broadcast(trainer: pl.Trainer) -> None:
    """Lightning asks all ranks for a SIGTERM before each batch and waits for the answer; StopOnSignal asks every few steps.

    No option turns that off.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None


def leave_out_anonymous(logger: WandbLogger) -> None:
    """Lightning passes `anonymous` to wandb.init always, and W&B warns that it has no effect."""
    logger._wandb_init.pop("anonymous", None)


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether the model will be validated after this batch; for the last callback in `on_train_batch_end`, as others may stop training."""
    loop: Any = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def validate_now(trainer: Any) -> None:
    """Runs the validation loop inside `fit` as after a batch. Lightning does so itself only where a batch ends, not an epoch."""
    loop: Any = trainer.fit_loop.epoch_loop
    trainer.validating = True
    loop._batches_that_stepped -= 1  # loggers expect the number of the step just taken
    loop.val_loop.run()
    loop._batches_that_stepped += 1
    trainer.training = True
