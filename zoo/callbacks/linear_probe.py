"""The concurrent linear probe of ACAI (Berthelot, Raffel, Roy & Goodfellow, 1807.07543, section 4.1): what one layer reads from the codes.

    logits = W · stop_gradient(z) + b        trained beside the model by Adam: one step of it for each step of the model

Classes: cross-entropy, and accuracy on the validation split. Attributes: binary cross-entropy, and balanced accuracy, mean over those
that vary; the log-odds of their shares of the training images are added in the loss only (logit adjustment, 2007.07314), or a rare one
would never be found. As published: Adam at 1e-4, all validation images every 65,536 training images, and the median of the last 20 such
accuracies as the result.

The probe reads codes of the image alone (no attributes are passed to `encode`), in eval mode and float32, of the weights the batch's
loss is computed with; never of averaged ones, which it was not trained on. Its own random numbers come from the seed, and the model
trains as if it were not there. `zoo.metrics.probes` fits the other kind of probe: afterwards, to convergence.
"""

import math
import statistics
import sys
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Generator, Tensor
from torch.nn import functional as F

from zoo.batch import to_float
from zoo.callbacks.clock import Pauses, images_seen, is_due, is_last_step
from zoo.callbacks.training_metrics import TrainingMetricsLogger, log
from zoo.data.loader import subset
from zoo.data.module import DataModule
from zoo.errors import ZooError
from zoo.hardware import distributed
from zoo.metrics.probes import varying
from zoo.models.base import evaluation_mode
from zoo.models.training_config import seed_of

PROBE = 21  # key of a random stream
REPORTED = 20  # evaluations at the end of training that the result is the median of


class LinearProbe:
    """One dense layer from codes to `labels` classes or attributes, L; it starts Glorot uniform, as published. Alike on all ranks."""

    def __init__(self, latent_dim: int, labels: int, classes: bool, learning_rate: float, seed: int, device: torch.device) -> None:
        bound, generator = math.sqrt(6 / (latent_dim + labels)), Generator().manual_seed(seed_of(seed, PROBE))
        self.weight = ((2 * torch.rand(labels, latent_dim, generator=generator) - 1) * bound).to(device).requires_grad_()
        self.bias = torch.zeros(labels, device=device, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.weight, self.bias], lr=learning_rate)
        self.classes = classes
        self.batch = torch.zeros(labels + 1, device=device)  # of the global batch at hand: images with each label, and the loss
        self.present = torch.zeros(labels, dtype=torch.float64, device=device)  # images with each label that it was trained on
        self.loss = torch.zeros((), device=device)  # summed over the steps since it was last logged
        self.images, self.steps = 0, 0  # that it was trained on; since it was last logged

    def logits(self, codes: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, L)."""
        return F.linear(codes, self.weight, self.bias)

    def learn(self, codes: Tensor, labels: Tensor, pieces: int) -> None:
        """Adds the gradient of the loss of codes (B, latent_dim) with labels (B, L), one of the `pieces` equal parts of a global batch."""
        truth, logits = labels.float(), self.logits(codes)
        if self.classes:
            loss = F.cross_entropy(logits, truth)
        else:
            prior = ((self.present + 1) / (self.images + 2)).logit().float()  # from earlier batches: UDT's hold other shares than the data
            loss = F.binary_cross_entropy_with_logits(logits + prior, truth)
        (loss / pieces).backward()
        self.batch += torch.cat([truth.sum(0), loss.detach()[None] / pieces])

    def step(self, batch_size: int) -> None:
        """One step with the gradients of all pieces and ranks."""
        if distributed():
            for part in (self.weight.grad, self.bias.grad, self.batch):
                assert part is not None
                dist.all_reduce(part)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.present += self.batch[:-1]
        self.loss += self.batch[-1]
        self.batch.zero_()
        self.images, self.steps = self.images + batch_size, self.steps + 1

    def predict(self, codes: Tensor) -> Tensor:
        """The most likely class, one-hot, or the attributes that are likelier than usual: (B, latent_dim) -> (B, L) bool."""
        logits = self.logits(codes)
        return F.one_hot(logits.argmax(1), logits.shape[1]).bool() if self.classes else logits > 0

    def state_dict(self) -> dict[str, Any]:
        """Between two steps."""
        tensors = {name: getattr(self, name).detach() for name in ("weight", "bias", "present", "loss")}
        return {**tensors, "optimizer": self.optimizer.state_dict(), "images": self.images, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name in ("weight", "bias", "present", "loss"):
                getattr(self, name).copy_(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.images, self.steps = state["images"], state["steps"]


class ConcurrentProbe(pl.Callback):
    """Trains a linear probe beside any model that can encode; does nothing, and says so, for one that cannot.

    Logs `train/probe_loss` when TrainingMetricsLogger logs, and every `every` images and after the last step `val/probe_accuracy`, for
    attributes `val/probe_balanced_accuracy`, in [0, 1]. `latest` holds the last value and, after the last step, the result: the median
    of the last 20, `…_median`. Each step costs the model's encoder another forward pass, which images/s include. Raises ZooError before
    training where the data have no labels.
    """

    def __init__(self, learning_rate: float = 1e-4, every: int = 65_536) -> None:
        self.learning_rate, self.every = learning_rate, every
        self.latest: dict[str, float] = {}
        self.history: list[float] = []  # the last accuracies, newest last
        self.probe: LinearProbe | None = None
        self._step = -1  # that was scored last
        self._varies = torch.zeros(0)  # (L,) bool, labels that are scored
        self._saved: dict[str, Any] | None = None  # of the run that is resumed

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if not pl_module.can_encode:
            if trainer.is_global_zero:
                print(f"There is no linear probe: {type(pl_module).__name__} has no encoder.", file=sys.stderr)
            return
        self._varies = labels_that_vary(trainer.datamodule)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.can_encode:
            store = trainer.datamodule.store
            self.probe = LinearProbe(
                latent_dim=pl_module.latent_dim,
                labels=store.attributes.shape[1],
                classes=store.has_classes,
                learning_rate=self.learning_rate,
                seed=pl_module.training_config.seed,
                device=pl_module.device,
            )
            if self._saved is not None:
                self.probe.load_state_dict(self._saved)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.probe is not None:
            with evaluation_mode(pl_module):
                codes = pl_module.encode(batch.image).float()  # (B, latent_dim)
            self.probe.learn(codes, batch.attributes, trainer.accumulate_grad_batches * trainer.world_size)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.probe is None or not is_due(trainer, pl_module, 1):  # in the middle of a global batch
            return
        self.probe.step(pl_module.training_config.batch_size)
        training_metrics = next((callback for callback in trainer.callbacks if isinstance(callback, TrainingMetricsLogger)), None)
        if training_metrics is not None and is_due(trainer, pl_module, training_metrics.every):
            log(trainer, images_seen(trainer, pl_module), {"train/probe_loss": self.probe.loss.item() / self.probe.steps})
            self.probe.loss.zero_()
            self.probe.steps = 0
        if is_due(trainer, pl_module, self.every):
            with Pauses.counted(), evaluation_mode(pl_module):
                self._evaluate(trainer, pl_module, self.probe)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self.probe is not None and is_last_step(trainer) and self._step != trainer.global_step:
            with Pauses.counted(), evaluation_mode(pl_module):  # validation has stopped the training
                self._evaluate(trainer, pl_module, self.probe)

    def _evaluate(self, trainer: Any, model: Any, probe: LinearProbe) -> None:
        """Measures the whole validation split and logs; on all ranks."""
        self._step = trainer.global_step
        hits = torch.zeros(4, len(probe.bias), dtype=torch.float64, device=model.device)
        for uint8_batch in trainer.datamodule.loader("val"):
            batch = to_float(uint8_batch)
            found, truth = probe.predict(model.encode(batch.image).float()), batch.attributes.bool()  # (B, L) each
            hits += torch.stack([(found & truth).sum(0), truth.sum(0), (~found & ~truth).sum(0), (~truth).sum(0)])
        if distributed():
            dist.all_reduce(hits)
        true_positives, positives, true_negatives, negatives = hits.cpu()  # (L,) each
        if probe.classes:
            name, value = "val/probe_accuracy", true_positives.sum() / positives.sum()
        else:
            balanced = (true_positives / positives + true_negatives / negatives) / 2  # NaN for attributes that do not vary here
            name, value = "val/probe_balanced_accuracy", balanced[self._varies].mean()
        self.history = [*self.history, value.item()][-REPORTED:]
        self.latest = {name: value.item()}
        if is_last_step(trainer):
            self.latest[f"{name}_median"] = statistics.median(self.history)
        log(trainer, images_seen(trainer, model), self.latest)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.probe is None else {"latest": self.latest, "history": self.history, "probe": self.probe.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest, self.history, self._saved = state_dict["latest"], state_dict["history"], state_dict["probe"]


def labels_that_vary(data: DataModule) -> Tensor:
    """Which labels have both values among the training and among the validation images: (L,) bool. Raises ZooError if none has."""
    train, val = (varying(data.store.attributes[subset(data.store.indices(split), data.limit)]) for split in ("train", "val"))
    if not (train & val).any():
        raise ZooError(
            f"The linear probe has nothing to read: no label of {data.store.manifest['name']} varies in both the training and the "
            f"validation images; leave it out (probe_every_images=null), or choose other data."
        )
    return torch.from_numpy(train & val)
