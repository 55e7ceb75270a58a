"""Line metrics during training, on models whose interpolations are known."""

import functools
import statistics

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import nn

from tests.callbacks.test_linear_probe import Tiny, fit, rows
from tests.data.test_store import Toy
from zoo.callbacks.clock import Pauses
from zoo.callbacks.line_metrics import LineMetrics, scores
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.training_metrics import TrainingMetricsLogger
from zoo.data.lines import Lines, draw_uint8
from zoo.errors import ZooError
from zoo.evaluation.context import EvalContext
from zoo.evaluation.interpolations import line_scores
from zoo.metrics import interpolations as metric
from zoo.metrics.interpolations import draw, nearest_lines
from zoo.models.base import Autoencoder

NAMES = ["val/lines/mean_distance", "val/lines/smoothness", "val/lines/smoothness_unbiased", "val/lines/undefined"]


@pytest.fixture(scope="module", autouse=True)
def templates():
    """Draws the 10,000 templates once, which takes most of the time of a small evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric, "line_templates", functools.cache(metric.line_templates))
        yield


class Pixels(Autoencoder):
    """Its code is the image, so that it interpolates by blending pixels; or, once it has learned so, by blending with a grey image."""

    def __init__(self):
        super().__init__((1, 32, 32), 1024)
        self.shift = nn.Parameter(torch.zeros(()))

    def losses(self, batch):
        return {"loss": (self.shift - 0.5).square()}

    def encode(self, image, attributes=None):
        return image.flatten(1)

    def decode(self, latent):
        return latent.unflatten(1, (1, 32, 32)) + self.shift * torch.linspace(0, 1, 32)


class Angle(Pixels):
    """Its code is the angle, so that its interpolations are perfect."""

    def encode(self, image, attributes=None):
        return nearest_lines(image)[1][:, None].float()

    def decode(self, latent):
        return torch.from_numpy(draw(latent[:, 0].double().numpy()))


def lines(val=16):
    return Lines(train=64, val=val, test=1)


def test_the_published_protocol_gives_the_golden_values_of_blended_pixels(tmp_path):
    """reference/methods.md 1.4: 256 pairs blended in data space have 6.3e-3 and 0.893; perfect ones 1.7e-7 and 5e-4."""
    metrics, paused = LineMetrics(), Pauses.seconds
    fit(tmp_path, Pixels(), lines(val=600), [metrics], 1, lr=0.0)
    assert metrics.latest[NAMES[0]] == pytest.approx(6.3e-3, rel=0.05)
    assert metrics.latest[NAMES[1]] == pytest.approx(0.893, abs=0.015)
    assert metrics.latest[NAMES[2]] == pytest.approx(metrics.latest[NAMES[1]])
    assert metrics.latest[NAMES[3]] == 0
    assert Pauses.seconds > paused + 0.1  # the work of this evaluation is no training
    perfect = scores(Angle(), torch.from_numpy(draw_uint8(np.linspace(0, 6, 32)) / np.float32(127.5) - 1))
    assert perfect.mean_distance < 3e-7
    assert perfect.smoothness < 1e-3


def test_the_numbers_are_those_of_zoo_evaluate(tmp_path):
    """Of the averaged weights, which are in the model after training."""
    metrics, model = LineMetrics(), Pixels()
    trainer, logged = fit(tmp_path, model, lines(val=50), [EMAWeightAveraging(decay=0.5), metrics], 4, lr=0.1)
    assert 0.05 < model.shift < 0.35
    store = trainer.datamodule.store
    with torch.no_grad():
        expected = line_scores(EvalContext(model, store, "val", 512))
        model.shift.add_(0.1)
        assert line_scores(EvalContext(model, store, "val", 512))["mean_distance"] > 1.01 * expected["mean_distance"]
    named = {f"val/lines/{name.removeprefix('line_')}": value for name, value in expected.items()}
    assert {name: metrics.latest[name] for name in NAMES} == pytest.approx(named, rel=1e-6)
    assert [logged[64][name] for name in NAMES] == pytest.approx([metrics.latest[name] for name in NAMES], rel=1e-6)


def test_as_often_as_the_official_evaluation():
    assert LineMetrics().every == 65_536


def test_every_so_many_images_and_at_the_end_with_the_median_of_the_last_20(tmp_path):
    metrics = LineMetrics(every=16)
    _, logged = fit(tmp_path, Pixels(), lines(val=4), [metrics], 23, lr=0.02)
    assert list(logged) == list(range(16, 24 * 16, 16))
    medians = [f"{name}_median" for name in NAMES]
    assert metrics.latest.keys() == {*NAMES, *medians}
    for name, median in zip(NAMES, medians, strict=True):
        values = [row[name] for row in logged.values()]
        assert metrics.latest[median] == pytest.approx(statistics.median(values[-20:]), rel=1e-6)
        assert [row for row in logged if median in logged[row]] == [368]
    distances = [row[NAMES[0]] for row in logged.values()]
    assert statistics.median(distances[-20:]) != pytest.approx(statistics.median(distances), rel=1e-3)


def test_what_is_undefined_is_left_out_and_medians_are_of_what_is_defined(tmp_path):
    class Still(Pixels):
        """Draws one and the same line, until it has learned to blend."""

        def decode(self, latent):
            images = super().decode(latent)
            return images if self.trainer.global_step > 2 else torch.zeros_like(images) + images[:1]

    metrics = LineMetrics(every=16)
    _, logged = fit(tmp_path, Still(), lines(val=4), [metrics], 4, lr=0.0)
    assert [row[NAMES[3]] for row in logged.values()] == [1, 1, 0, 0]
    for name in NAMES[1:3]:
        assert [row for row in logged if name in logged[row]] == [48, 64]
        assert metrics.latest[f"{name}_median"] == pytest.approx(logged[64][name])
    assert metrics.latest[f"{NAMES[3]}_median"] == 0.5
    still = LineMetrics()
    fit(tmp_path / "still", Still(), lines(val=4), [still], 2)
    assert still.latest.keys() == {NAMES[0], NAMES[3], f"{NAMES[0]}_median", f"{NAMES[3]}_median"}
    assert still.latest[NAMES[3]] == 1


def test_resumed_the_history_goes_on(tmp_path):
    def callbacks(folder):
        return [EMAWeightAveraging(decay=0.5), LineMetrics(every=32), PeriodicCheckpoint(folder, every=48, keep=9)]

    fit(tmp_path, Pixels(), lines(val=4), callbacks(tmp_path), 10, lr=0.05)
    fit(
        tmp_path / "cut",
        Pixels(),
        lines(val=4),
        callbacks(tmp_path / "cut"),
        10,
        lr=0.05,
        resume=tmp_path / "checkpoints/000000000096.ckpt",
    )
    whole, cut = (torch.load(folder / "checkpoints/000000000160.ckpt", weights_only=True) for folder in (tmp_path, tmp_path / "cut"))
    assert whole["callbacks"]["LineMetrics"] == cut["callbacks"]["LineMetrics"]
    assert len(whole["callbacks"]["LineMetrics"]["history"]) == 5
    assert len({tuple(row) for row in whole["callbacks"]["LineMetrics"]["history"]}) == 5
    assert {seen: row for seen, row in rows(tmp_path).items() if seen > 96} == rows(tmp_path / "cut")
    again = LineMetrics()
    fit(tmp_path / "again", Pixels(), lines(val=4), [again], 10, resume=tmp_path / "checkpoints/000000000160.ckpt")  # nothing is left to do
    assert again.latest == whole["callbacks"]["LineMetrics"]["latest"]
    assert f"{NAMES[0]}_median" in again.latest


def test_the_model_trains_as_if_it_were_not_measured(tmp_path):
    class Small(Tiny):
        def __init__(self):
            super().__init__()
            self.image_shape = (1, 32, 32)
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(1024, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))
            self.decoder = nn.Linear(6, 1024)

        def decode(self, latent):
            return self.decoder(latent).unflatten(1, (1, 32, 32))

    ends = []
    for name, callbacks in (("alone", []), ("watched", [LineMetrics(every=16)])):
        torch.manual_seed(0)
        model = Small()
        fit(tmp_path / name, model, lines(val=4), [TrainingMetricsLogger(16), *callbacks], 5)
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
    assert ends[0]["encoder.2.num_batches_tracked"] == 5


def test_other_data_too_few_lines_and_models_without_codes(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(ZooError, match="not for toy"):
        fit(tmp_path, Tiny(), Toy(), [LineMetrics()], 1)
    with pytest.raises(ZooError, match="at least 2 validation images"):
        fit(tmp_path, Pixels(), lines(val=1), [LineMetrics()], 1)
    model, metrics = Pixels(), LineMetrics()
    model.can_encode = False
    _, logged = fit(tmp_path, model, lines(), [metrics], 1)
    assert metrics.latest == {}
    assert logged == {}
