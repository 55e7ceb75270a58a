"""Validation in training: when it runs, what is fitted and saved there."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import nn

from tests.data.test_store import Toy
from zoo.batch import Batch
from zoo.callbacks.collapse_warning import are_alike, likely_cause
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.prior_fitter import PriorFitter
from zoo.callbacks.validation_metrics import ValidationMetrics
from zoo.data.module import DataModule
from zoo.models import method
from zoo.models.ae import AE
from zoo.models.training_config import TrainingConfig
from zoo.nets.latent_flows import CouplingFlow
from zoo.priors import Flow, Gaussian


@pytest.mark.parametrize("needs_fit", [True, False])
def test_averaging_the_weights_does_not_wash_a_flow_prior_out(tmp_path, needs_fit):
    """What was fitted to codes of the averaged weights goes into both sets, parameters too; another flow stays as it is."""
    model, averaging, found = (
        AE(image_size=8, channels=3, latent_dim=4, prior=Flow(4, CouplingFlow(4, 2, 8), steps=3)),
        EMAWeightAveraging(decay=0.5),
        {},
    )
    model.prior.needs_fit = needs_fit
    start = {name: value.clone() for name, value in model.state_dict().items()}

    class Look(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if trainer.global_step == 4:
                both = model, averaging._average_model.module
                found.update(zip(("raw", "averaged"), ({k: v.clone() for k, v in one.state_dict().items()} for one in both), strict=True))

    data = DataModule(Toy(45), 8, cache=tmp_path)
    callbacks = [ValidationMetrics(), PriorFitter(images=40), averaging, Look()]
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_steps=5, val_check_interval=4, check_val_every_n_epoch=None, accelerator="cpu", callbacks=callbacks, **options)
    trainer.fit(model, data)
    for name in start:
        raw, averaged = found["raw"][name], found["averaged"][name]
        assert torch.equal(raw, averaged) is name.startswith("prior."), name
    assert all(torch.equal(found["raw"][name], value) for name, value in start.items() if name.startswith("prior.")) is not needs_fit


class Row(pl.Callback):
    """Remembers at which steps what happened."""

    def __init__(self):
        self.validated, self.trained = [], 0

    def on_train_batch_end(self, trainer, *_):
        self.trained = trainer.global_step

    def on_validation_end(self, trainer, pl_module):
        self.validated.append(trainer.global_step)


class StopsAfter(pl.Callback):
    """Ends training as a callback may: in a step, at a validation, or at the end of an epoch."""

    def __init__(self, where, step):
        self.where, self.step = where, step

    def stop(self, trainer, where):
        trainer.should_stop |= where == self.where and trainer.global_step >= self.step

    def on_train_batch_end(self, trainer, *_):
        self.stop(trainer, "batch")

    def on_validation_end(self, trainer, *_):
        self.stop(trainer, "validation")

    def on_train_epoch_end(self, trainer, *_):
        self.stop(trainer, "epoch")


@pytest.mark.parametrize(
    ("where", "step", "validated"),
    [("nowhere", 0, [3, 6, 8]), ("batch", 5, [3, 5]), ("validation", 4, [3, 6]), ("epoch", 4, [3, 4])],
)
def test_the_last_step_is_validated_and_saved_however_training_ends(tmp_path, where, step, validated):
    """36 images in batches of 8 are 4 steps an epoch."""
    rows, watch = Row(), ValidationMetrics()
    model = AE(image_size=8, channels=3, latent_dim=4)
    model.training_config = TrainingConfig(batch_size=8, max_images=64)
    callbacks = [watch, StopsAfter(where, step), rows, PeriodicCheckpoint(tmp_path, 16, keep=9)]
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 2}
    interval = {"val_check_interval": 3, "check_val_every_n_epoch": None}
    trainer = pl.Trainer(max_steps=8, max_epochs=-1, accelerator="cpu", callbacks=callbacks, **interval, **options)
    trainer.fit(model, DataModule(Toy(45), 8, cache=tmp_path))
    assert rows.validated[1:] == validated  # behind the sanity check
    assert rows.trained == validated[-1]
    assert watch.latest["val/mse"] == trainer.callback_metrics["val/mse"].item()
    saved = sorted(int(path.stem) // 8 for path in (tmp_path / "checkpoints").glob("*.ckpt"))
    assert saved == sorted({*range(2, validated[-1] + 1, 2), validated[-1]})
    newest = torch.load(tmp_path / "checkpoints" / f"{8 * saved[-1]:012d}.ckpt", weights_only=True)
    assert newest["callbacks"]["ValidationMetrics"]["latest"] == watch.latest


@pytest.mark.parametrize(("share", "alike"), [(0.0, True), (0.01, True), (0.03, False), (1.0, False)])
def test_reconstructions_are_alike_if_they_differ_by_less_than_2_percent_of_the_images(share, alike):
    class Flat(nn.Module):
        def reconstruct(self, image, attributes):
            return share * image + 0.5

    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert are_alike(Flat(), Batch(images, torch.zeros(16, 0), torch.arange(16))) is alike


def test_the_likely_cause_of_a_collapse_is_found_by_looking():
    class Flat(AE):
        """Draws the same image of all, unless its weights are raw."""

        differ, rate = False, None

        def reconstruct(self, image, attributes=None):
            return image * float(self.differ)

        def losses(self, batch):
            return {"loss": torch.zeros(())} | ({} if self.rate is None else {"rate": torch.tensor(self.rate)})

    model = Flat(image_size=8, channels=1, latent_dim=3)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = Batch(images, torch.zeros(16, 0), torch.arange(16))
    assert "look at the data" in likely_cause(model, batch._replace(image=images[:1].expand(16, -1, -1, -1)))
    assert "optimizer.lr" in likely_cause(model, batch)
    model.rate = 0.01
    assert "lower model.beta" in likely_cause(model, batch)
    model.rate = 20.0
    assert "optimizer.lr" in likely_cause(model, batch)
    model.differ = True
    assert "lower ema_decay" in likely_cause(model, batch)


def test_every_tensor_of_a_fitted_prior_is_broadcast(monkeypatch):
    monkeypatch.setattr(method.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(method.dist, "broadcast", lambda tensor, rank: tensor.fill_(rank + 1))
    for prior in (Gaussian(3), Flow(3)):
        model = AE(image_size=8, channels=1, latent_dim=3, prior=prior)
        with torch.no_grad():
            model.fit_prior([torch.rand(64, 1, 8, 8) * 2 - 1])
        assert all((tensor == 1).all() for tensor in [*prior.parameters(), *prior.buffers()] if tensor.is_floating_point())
