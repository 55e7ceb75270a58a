"""Lightning's own callbacks and tools with a model of the zoo, and the zoo's data with a module of one's own."""

import csv
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)  # fmt: skip
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner

from tests.lightning.test_any_trainer import SMALL, loader, trainer
from zoo.data.faces.dataset import Faces
from zoo.data.module import DataModule
from zoo.models.ae import AE
from zoo.models.vae import VAE


def test_early_stopping_and_the_best_checkpoint_watch_what_was_validated(tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="val/mse", save_top_k=1, filename="best")
    stop = EarlyStopping("val/psnr", mode="max", patience=1, min_delta=100)
    fit = trainer(tmp_path, max_epochs=9, callbacks=[stop, best], enable_checkpointing=True)
    model = AE(**SMALL)
    fit.fit(model, loader(), loader())
    assert fit.current_epoch == 2
    assert best.best_model_score == pytest.approx(fit.callback_metrics["val/mse"].item(), rel=0.2)
    [validated] = fit.validate(AE.load_from_checkpoint(best.best_model_path), loader(), verbose=False)
    assert validated["val/mse"] == pytest.approx(best.best_model_score.item(), rel=1e-6)


def test_what_is_logged_and_where(tmp_path):
    """Training terms are means over the logging interval, at the steps at which the Trainer writes."""
    losses = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(outputs["loss"].item())

    logger = CSVLogger(tmp_path)
    callbacks = [Look(), LearningRateMonitor("step"), DeviceStatsMonitor(cpu_stats=False)]
    fit = trainer(tmp_path, max_epochs=2, callbacks=callbacks, logger=logger, log_every_n_steps=4)
    fit.fit(VAE(**SMALL, gamma=0.5), loader(), loader())
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        rows = list(csv.DictReader(file))

    def logged(name):
        return [(int(row["step"]), float(row[name])) for row in rows if row[name]]

    means = [sum(losses[:4]) / 4, sum(losses[4:]) / 4]
    assert logged("train/loss") == [(3, pytest.approx(means[0], rel=1e-5)), (7, pytest.approx(means[1], rel=1e-5))]
    assert [rate for _, rate in logged("lr-Adam/autoencoder")] == [1e-3, 1e-3]
    assert [step for step, _ in logged("val/elbo")] == [3, 7]


def test_validation_is_the_mean_over_all_images(tmp_path):
    model = AE(**SMALL)
    one, many = (trainer(tmp_path).validate(model, loader(batch_size=size, drop_last=False), verbose=False)[0] for size in (32, 5))
    assert one == pytest.approx(many, rel=1e-6)


def test_the_learning_rate_can_be_searched(tmp_path):
    model, fit = AE(**SMALL), trainer(tmp_path, max_epochs=20)
    found = Tuner(fit).lr_find(model, loader(), min_lr=1e-6, max_lr=1.0, num_training=30)
    rates = found.results["lr"]
    assert rates[0] < 1e-5
    assert rates[-1] > 0.1
    assert len({*found.results["loss"]}) > 10
    assert model.lr == found.suggestion()


def test_averaged_weights_are_validated(tmp_path):
    fit = trainer(tmp_path, callbacks=[EMAWeightAveraging(decay=0.9)])
    model = AE(**SMALL)
    fit.fit(model, loader(), loader())
    assert math.isfinite(fit.callback_metrics["val/mse"])


def test_a_progress_bar_of_others(tmp_path):
    trainer(tmp_path, max_epochs=1, enable_progress_bar=True, callbacks=[RichProgressBar()]).fit(AE(**SMALL), loader(), loader())


class Mine(pl.LightningModule):
    """A module of one's own."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = torch.nn.Conv2d(3, 3, 1), {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault("train", []).append(batch)
        return (self.net(batch.image) - batch.image).square().mean()

    def validation_step(self, batch, batch_idx):
        self.seen.setdefault("val", []).append(batch)

    def test_step(self, batch, batch_idx):
        self.seen.setdefault("test", []).append(batch)

    def predict_step(self, batch, batch_idx):
        return batch.image

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def data():
    return lambda: DataModule(Faces(image_size=32, train=32, val=12, test=20), batch_size=8, flip=True)


def test_the_zoos_data_with_a_module_of_ones_own(data, tmp_path):
    mine, fit = Mine(), trainer(tmp_path, max_epochs=1)
    fit.fit(mine, data())
    fit.test(mine, data(), verbose=False)
    images = {split: torch.cat([batch.image for batch in batches]) for split, batches in mine.seen.items()}
    assert {split: len(image) for split, image in images.items()} == {"train": 32, "val": 12 + 12, "test": 20}  # the sanity check, too
    assert all(-1 <= image.min() < 0 < image.max() <= 1 for image in images.values())
    predicted = torch.cat(fit.predict(mine, data()))
    assert torch.equal(predicted, images["test"])


def test_the_zoos_data_with_a_model_of_the_zoo(data, tmp_path):
    fit = trainer(tmp_path)
    model = VAE(image_size=32, channels=3, latent_dim=4)
    fit.fit(model, data())
    assert {"train/loss", "val/mse"} <= fit.callback_metrics.keys()
    assert model.images_counted == 64
