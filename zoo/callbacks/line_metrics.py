"""ACAI's numbers for interpolations of lines during training (1807.07543, section 3.2; `zoo.metrics.interpolations` defines them).

As published: 512 images of the split make 256 pairs, first half with second half, interpolated in 16 steps, every 65,536
images; the result is the median of the last 20 evaluations. Published from the test split, here from the validation split:
`zoo.evaluate` measures the test split.
"""

import math
import statistics
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from zoo.callbacks.clock import Pauses, images_seen, is_due, is_last_step
from zoo.callbacks.training_metrics import log
from zoo.errors import ZooError
from zoo.evaluation.descriptors import LINE_IMAGES
from zoo.evaluation.interpolations import LINE_STEPS
from zoo.metrics.interpolations import LineScores, mean_distance_and_smoothness
from zoo.models.base import Autoencoder, evaluation_mode

REPORTED = 20  # evaluations at the end of training that the result is the median of
TOGETHER = 16  # pairs decoded at once


class LineMetrics(pl.Callback):
    """Scores interpolations every `every` images and after the last step, with the averaged weights where averaging is on.

    Logs `val/lines/mean_distance`, `…/smoothness`, `…/smoothness_unbiased` and `…/undefined`, and after the last step the median of the
    last 20 of each, `…_median`; what is not defined is left out. `latest` holds the last values and those medians. Does nothing for a
    model that cannot encode. Raises ZooError before training if the data are not lines, or too few.
    """

    def __init__(self, every: int = 65_536) -> None:
        self.every = every
        self.latest: dict[str, float] = {}
        self.history: list[list[float]] = []  # the last scores, newest last
        self._step = -1  # that was scored last

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        data = trainer.datamodule
        if data.store.manifest["name"] != "lines":
            raise ZooError(f"Line metrics are defined for data=lines, not for {data.store.manifest['name']}; leave them out.")
        if min(len(data.store.indices("val")), data.limit or 2) < 2:
            raise ZooError("Line metrics need at least 2 validation images; raise data.source.val or data.limit.")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # On one rank: so little to compute is not worth being divided.
        if pl_module.can_encode and trainer.is_global_zero and is_due(trainer, pl_module, self.every):
            with Pauses.counted(), evaluation_mode(pl_module, trainer):
                self._evaluate(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.can_encode and trainer.is_global_zero and is_last_step(trainer) and self._step != trainer.global_step:
            with Pauses.counted(), evaluation_mode(pl_module, trainer):  # validation has stopped the training
                self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: Any, model: Any) -> None:
        self._step = trainer.global_step
        self.history = [*self.history, [*scores(model, trainer.datamodule.some_images("val", LINE_IMAGES).image)]][-REPORTED:]
        found = {f"val/lines/{name}": value for name, value in zip(LineScores._fields, self.history[-1], strict=True)}
        if is_last_step(trainer):
            for name, values in zip(list(found), zip(*self.history, strict=True), strict=True):
                defined = [value for value in values if math.isfinite(value)]
                found[f"{name}_median"] = statistics.median(defined) if defined else math.nan
        self.latest = {name: value for name, value in found.items() if math.isfinite(value)}
        log(trainer, images_seen(trainer, model), self.latest)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest, self.history = state_dict["latest"], state_dict["history"]


def scores(model: Autoencoder, images: Tensor) -> LineScores:
    """Scores of the interpolations between the first half of images (B, 1, 32, 32) and the second."""
    codes, half = model.encode(images).float(), len(images) // 2
    pairs = zip(codes[:half].split(TOGETHER), codes[half : 2 * half].split(TOGETHER), strict=True)
    return mean_distance_and_smoothness(torch.cat([model.interpolate(first, second, LINE_STEPS).float() for first, second in pairs]))
