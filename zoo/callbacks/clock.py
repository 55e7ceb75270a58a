"""When something is due on the clock of images seen, and time that does not count as training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer

from zoo.models.base import Autoencoder


def images_seen(trainer: pl.Trainer, model: Autoencoder) -> int:
    """Images trained on so far, over all ranks and stages."""
    return model.training_config.images_before + trainer.global_step * model.training_config.batch_size


def is_last_step(trainer: pl.Trainer) -> bool:
    """Whether the optimizer step just taken was the last one: all of max_images are seen, or something has stopped training."""
    return trainer.should_stop or trainer.global_step >= trainer.max_steps


def end_reason(trainer: Any, model: Autoencoder) -> str:
    """Why training has ended before the last step; "" if it has not."""
    if trainer.global_step >= trainer.max_steps or not trainer.should_stop:
        return ""
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return f"EarlyStopping: {' '.join(callback.stopping_reason_message.split())}"
    if model.end_reason:
        return model.end_reason
    if any(isinstance(callback, Timer) and (callback.time_remaining() or 0) <= 0 for callback in trainer.callbacks):
        return "trainer.max_time is over"
    return "a callback has stopped it"


def is_due(trainer: pl.Trainer, model: Autoencoder, every: int) -> bool:
    """Whether the optimizer step just taken crossed a multiple of `every` images, or was the last one."""
    if (trainer.fit_loop.total_batch_idx + 1) % trainer.accumulate_grad_batches:
        return False  # in the middle of a global batch
    seen, batch = images_seen(trainer, model), model.training_config.batch_size
    return seen // every > (seen - batch) // every or is_last_step(trainer)


class Pauses:
    """Seconds spent on validating and saving rather than on training, summed over a process."""

    seconds = 0.0

    @classmethod
    @contextmanager
    def counted(cls) -> Iterator[None]:
        """Counts what is done inside as a pause."""
        start = time.perf_counter()
        try:
            yield
        finally:
            cls.seconds += time.perf_counter() - start
