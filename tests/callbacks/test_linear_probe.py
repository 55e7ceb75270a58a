"""The linear probe beside a model: it learns what one layer can read, and the model never notices."""

import csv
import os
import statistics

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pytorch_lightning.callbacks import EMAWeightAveraging
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.nn import functional as F

from tests.data.test_store import Toy
from zoo.batch import to_float
from zoo.callbacks.linear_probe import ConcurrentProbe, LinearProbe
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.training_metrics import TrainingMetricsLogger
from zoo.config.schema import TrainerSettings
from zoo.data.loader import BatchLoader
from zoo.data.module import DataModule
from zoo.data.store import prepare
from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.models.training_config import TrainingConfig
from zoo.runs import checkpoint
from zoo.runs.layout import FORMAT
from zoo.runs.metrics_csv import MetricsCsv
from zoo.training.loggers import CsvLogger
from zoo.training.trainer import build_trainer

CPU = TrainerSettings(accelerator="cpu", devices=1, precision="32-true")


class Tiny(Autoencoder):
    """Has all that a second forward pass could disturb: batch statistics, dropout, noise by position."""

    def __init__(self):
        super().__init__((3, 8, 8), 6)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))
        self.decoder = nn.Linear(6, 192)

    def losses(self, batch):
        latent = self.encode(batch.image)
        return {"loss": (self.decode(latent + 0.1 * self.normal(*latent.shape)) - batch.image).square().mean()}

    def encode(self, image, attributes=None):
        assert attributes is None, "a probe must not find labels in the codes that were put there"
        return self.encoder(image)

    def decode(self, latent):
        return self.decoder(latent).unflatten(1, (3, 8, 8))


class Visible(Toy):
    """Toy images whose labels can be seen: the k-th lights up the k-th pixel of the first row. 480 to train on, 60 to validate.

    The last attribute varies in the validation split only.
    """

    def __init__(self, classes=False):
        super().__init__()
        rng = np.random.default_rng(1)
        self.attribute_names = ("a", "b", "c") if classes else ("Half", "Third", "Rare", "Unseen")
        multiple = rng.random((self.count, 4)) < (0.5, 0.3, 0.07, 0.5)
        multiple[self.splits == 0, 3] = True
        self.attributes = np.eye(3, dtype=np.uint8)[rng.integers(0, 3, self.count)] if classes else multiple.astype(np.uint8)
        for k in range(self.attributes.shape[1]):
            self.images[:, :, 0, k] = 30 + 190 * self.attributes[:, k, None]

    def settings(self):
        return super().settings() | {"visible": self.attribute_names}


def fit(folder, model, source, callbacks, steps, resume=None, batch_size=16, lr=0.01, seed=0, **trainer_options):
    """Trains under the Trainer of `zoo.train`; returns it and the rows of metrics.csv."""
    data = DataModule(source, batch_size, cache=folder / "cache", seed=seed)
    model.training_config = TrainingConfig(batch_size, steps * batch_size, lambda groups: torch.optim.Adam(groups, lr=lr), seed=seed)
    model.provenance = {"format": FORMAT, "config": {}}
    loggers = [CsvLogger(MetricsCsv(folder / "metrics.csv", batch_size))]
    trainer = build_trainer(CPU.model_copy(update=trainer_options), folder, steps, callbacks, loggers)
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    return trainer, rows(folder)


def rows(folder):
    if not (folder / "metrics.csv").exists():
        return {}
    with open(folder / "metrics.csv") as file:
        return {int(row["images_seen"]): {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)}


def new(seed=0):
    torch.manual_seed(seed)
    return Tiny()


def gaussians(count, share, seed):
    """Codes (count, 4) of two unit Gaussians 2 apart in one direction, and labels (count, 1), 1 for `share` of them."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, 1, generator=generator) < share).float()
    return torch.randn(count, 4, generator=generator) + labels * torch.tensor([1.0, -1, 1, -1]), labels


# One layer ---------------------------------------------------------------------------------------------------------------


def test_initial_weights_are_glorot_uniform_from_the_seed_alone():
    before = torch.get_rng_state()
    probe, same, other = (LinearProbe(60, 40, True, 1e-4, seed, torch.device("cpu")) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    bound = (6 / 100) ** 0.5
    assert 0.99 * bound < probe.weight.abs().max() <= bound
    assert probe.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert torch.equal(probe.weight, same.weight)
    assert not torch.equal(probe.weight, other.weight)
    assert not probe.bias.any()


def test_a_rare_attribute_is_found_as_well_as_the_best_classifier_finds_it():
    """Balanced accuracy of two unit Gaussians 2 apart is at most Φ(1) = 0.841; without the shares in the loss it is 0.63."""
    probe = LinearProbe(4, 1, False, 0.02, 0, torch.device("cpu"))
    codes, labels = gaussians(100_000, 0.05, seed=0)
    for part, truth in zip(codes.split(250), labels.split(250), strict=True):
        probe.learn(part, truth, 1)
        probe.step(250)
    codes, labels = gaussians(20_000, 0.05, seed=1)
    assert balanced_accuracy_score(labels, probe.predict(codes)) == pytest.approx(0.841, abs=0.02)
    prior = np.log(0.05 / 0.95)
    assert balanced_accuracy_score(labels, probe.logits(codes).detach() + prior > 0) < 0.7


def test_pieces_of_a_batch_make_the_step_of_the_whole():
    codes, labels = torch.randn(24, 5), torch.eye(3)[torch.arange(24) % 3]
    for classes in (True, False):
        whole, parts = (LinearProbe(5, 3, classes, 0.1, 0, torch.device("cpu")) for _ in range(2))
        whole.learn(codes, labels, 1)
        for part, truth in zip(codes.split(6), labels.split(6), strict=True):
            parts.learn(part, truth, 4)
        torch.testing.assert_close(parts.weight.grad, whole.weight.grad)
        for probe in (whole, parts):
            probe.step(24)
            assert probe.present.tolist() == [8, 8, 8]
        torch.testing.assert_close(parts.weight, whole.weight)
        torch.testing.assert_close(parts.loss, whole.loss)


# Under the Trainer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [True, False])
def test_it_is_the_layer_that_one_would_train_by_hand_on_the_same_batches(tmp_path, classes):
    """The model does not move (learning rate 0, fixed statistics), so codes stay what they are."""
    source, model, steps = Visible(classes), new(), 40  # 30 steps an epoch
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    probe = ConcurrentProbe(0.01, every=160)
    _, logged = fit(tmp_path, model, source, [TrainingMetricsLogger(320), probe], steps, lr=0.0)

    store = prepare(source, tmp_path / "cache")
    first = LinearProbe(6, store.attributes.shape[1], classes, 0.01, 0, torch.device("cpu"))
    layer = nn.Linear(6, store.attributes.shape[1])
    layer.weight.data, layer.bias.data = first.weight.data.clone(), torch.zeros_like(layer.bias)
    optimizer, losses, seen = torch.optim.Adam(layer.parameters(), lr=0.01), [], torch.zeros(2, layer.out_features)
    loader = BatchLoader(store, "train", 16, seed=0)
    for epoch in range(2):
        loader.set_epoch(epoch)
        for batch in loader:
            truth, logits = batch.attributes.float(), layer(model.encode(to_float(batch).image).detach())
            odds = (seen[1] + 1) / (seen[0] + 1)  # of each attribute so far
            loss = F.cross_entropy(logits, truth.argmax(1)) if classes else F.binary_cross_entropy_with_logits(logits + odds.log(), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            seen += torch.stack([(1 - truth).sum(0), truth.sum(0)])
            if len(losses) == steps:
                break
    torch.testing.assert_close(probe.probe.weight, layer.weight)
    torch.testing.assert_close(probe.probe.bias, layer.bias)
    assert logged[320]["train/probe_loss"] == pytest.approx(np.mean(losses[:20]), rel=1e-5)
    assert logged[640]["train/probe_loss"] == pytest.approx(np.mean(losses[20:]), rel=1e-5)
    assert [row for row in logged if "train/probe_loss" in logged[row]] == [320, 640]

    positions = store.indices("val")
    with torch.no_grad():
        logits = layer(model.encode(torch.from_numpy(store.images[positions]) / 127.5 - 1)).numpy()
    truth = store.attributes[positions]
    if classes:
        name, expected = "val/probe_accuracy", (logits.argmax(1) == truth.argmax(1)).mean()
    else:
        assert [0 < share < 1 for share in truth.mean(0)] == [True] * 4
        name = "val/probe_balanced_accuracy"
        expected = np.mean([balanced_accuracy_score(truth[:, k], logits[:, k] > 0) for k in range(3)])
    assert probe.latest[name] == pytest.approx(expected, abs=1e-6)
    assert [row for row in logged if name in logged[row]] == [160, 320, 480, 640]
    assert logged[640][f"{name}_median"] == pytest.approx(statistics.median(logged[row][name] for row in (160, 320, 480, 640)))
    assert f"{name}_median" not in logged[480]
    assert probe.latest.keys() == {name, f"{name}_median"}


@pytest.mark.parametrize("classes", [True, False])
def test_it_reads_what_is_there_and_nothing_that_is_not(tmp_path, classes):
    class First(Tiny):
        """Its code is the first row's four pixels."""

        def encode(self, image, attributes=None):
            return F.pad(image[:, 0, 0, :4], (0, 2))

    class Last(Tiny):
        """Its code is noise: the last row's pixels."""

        def encode(self, image, attributes=None):
            return image[:, 0, -1, :6]

    found = {}
    for model in (First(), Last()):
        folder = tmp_path / type(model).__name__
        probe = ConcurrentProbe(0.05, every=100_000)
        fit(folder, model, Visible(classes), [probe], 150)
        found[type(model)] = next(iter(probe.latest.values()))
    assert found[First] == 1
    assert found[Last] < 0.7


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2, "precision": "bf16-mixed"}])
def test_the_model_trains_as_if_it_were_not_there(tmp_path, options):
    ends = []
    for name, probes in (("alone", []), ("watched", [ConcurrentProbe(0.1, every=64)])):
        folder = tmp_path / name
        averaging = EMAWeightAveraging(decay=0.9)
        saver = PeriodicCheckpoint(folder, every=10_000)
        trainer, logged = fit(folder, new(), Visible(), [averaging, TrainingMetricsLogger(64), *probes, saver], 35, **options)
        saved = checkpoint.load(folder / "checkpoints" / "000000000560.ckpt")
        losses = {row: values["train/loss"] for row, values in logged.items() if "train/loss" in values}
        ends.append(
            {**saved["state_dict"], **{f"current/{k}": v for k, v in saved["current_model_state"].items()}, "rng": torch.get_rng_state()}
        )
        assert not (probes and trainer.lightning_module.training is False)
        ends[-1] |= {f"loss/{row}": torch.tensor(value) for row, value in losses.items()}
    alone, watched = ends
    assert alone.keys() == watched.keys()
    assert sum(key.startswith("loss/") for key in alone) == 9
    assert alone["current/encoder.2.num_batches_tracked"] == 35 * options.get("accumulate_grad_batches", 1)
    for name, value in alone.items():
        assert torch.equal(value, watched[name]), name
    assert not torch.equal(alone["encoder.1.weight"], alone["current/encoder.1.weight"])


@pytest.mark.parametrize("classes", [True, False])
def test_resumed_it_goes_on_to_the_last_bit(tmp_path, classes):
    def callbacks(folder):
        averaging, saver = EMAWeightAveraging(decay=0.9), PeriodicCheckpoint(folder, every=112, keep=99)
        return [averaging, TrainingMetricsLogger(80), ConcurrentProbe(0.01, every=48), saver]

    (tmp_path / "cut").mkdir()
    fit(tmp_path, new(), Visible(classes), callbacks(tmp_path), 45)
    (tmp_path / "cut" / "metrics.csv").write_text((tmp_path / "metrics.csv").read_text())
    whole = torch.load(tmp_path / "checkpoints" / "000000000720.ckpt", weights_only=True)
    for start in (112, 448, 560):
        MetricsCsv(tmp_path / "cut" / "metrics.csv", 16).rewind(start // 16)
        fit(
            tmp_path / "cut",
            new(1),
            Visible(classes),
            callbacks(tmp_path / "cut"),
            45,
            resume=tmp_path / "checkpoints" / f"{start:012d}.ckpt",
        )
        resumed = torch.load(tmp_path / "cut" / "checkpoints" / "000000000720.ckpt", weights_only=True)
        one, other = (state["callbacks"]["ConcurrentProbe"] for state in (whole, resumed))
        for name in ("weight", "bias", "present", "loss"):
            assert torch.equal(one["probe"][name], other["probe"][name]), name
        for number in (0, 1):
            moments, twins = (part["probe"]["optimizer"]["state"][number] for part in (one, other))
            assert all(torch.equal(moments[name], twins[name]) for name in ("exp_avg", "exp_avg_sq", "step"))
        assert one["probe"]["images"] == other["probe"]["images"] == 720
        assert one["history"] == other["history"]
        assert one["latest"] == other["latest"]
        for seen, row in rows(tmp_path).items():
            for name, value in row.items():
                if "probe" in name and seen > start:
                    assert rows(tmp_path / "cut")[seen][name] == value, (seen, name)
    assert one["probe"]["weight"].any()
    assert len(one["history"]) == 15


def test_a_finished_run_still_knows_its_result(tmp_path):
    name = "val/probe_accuracy_median"
    _, logged = fit(tmp_path, new(), Visible(True), [ConcurrentProbe(every=64), PeriodicCheckpoint(tmp_path, 10_000)], 8)
    again = ConcurrentProbe(every=64)
    fit(tmp_path, new(), Visible(True), [again], 8, resume=tmp_path / "checkpoints" / "000000000128.ckpt")
    assert again.latest[name] == pytest.approx(logged[128][name])


def test_the_result_is_the_median_of_the_last_20(tmp_path):
    probe = ConcurrentProbe(0.05, every=16)
    _, logged = fit(tmp_path, new(), Visible(True), [probe], 33)
    accuracies = [row["val/probe_accuracy"] for row in logged.values()]
    assert len(accuracies) == 33
    assert probe.latest["val/probe_accuracy_median"] == pytest.approx(statistics.median(accuracies[-20:]))
    assert statistics.median(accuracies[-20:]) != pytest.approx(statistics.median(accuracies))


def test_codes_of_pieces_are_those_the_loss_was_computed_with(tmp_path):
    """So accumulation changes nothing, though the model moves between two global batches (here without batch statistics)."""

    def probe_of(name, **options):
        model = new()
        model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
        torch.nn.init.constant_(model.encoder[1].weight, 0.01)
        callback = ConcurrentProbe(0.01, every=64)
        fit(tmp_path / name, model, Visible(), [callback], 20, **options)
        return callback

    whole, pieces = probe_of("whole"), probe_of("pieces", accumulate_grad_batches=4)
    torch.testing.assert_close(pieces.probe.weight, whole.probe.weight, rtol=1e-4, atol=1e-5)
    assert pieces.probe.present.tolist() == whole.probe.present.tolist()
    assert len(pieces.history) == len(whole.history) == 5


def on_one_of_two(rank, folder):
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model, probe = new(), ConcurrentProbe(0.01, every=64)
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    fit(folder / "two", model, Visible(), [TrainingMetricsLogger(64), probe, PeriodicCheckpoint(folder / "two", 10_000)], 20, devices=2)
    torch.save(probe.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_train_and_measure_what_one_does(tmp_path):
    torch.manual_seed(0)
    model, probe = new(), ConcurrentProbe(0.01, every=64)
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    _, logged = fit(tmp_path / "two", model, Visible(), [TrainingMetricsLogger(64), probe], 20)
    (tmp_path / "two" / "metrics.csv").rename(tmp_path / "metrics.csv")
    mp.start_processes(on_one_of_two, (tmp_path,), nprocs=2, start_method="fork")
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in ("weight", "bias", "present", "loss"):
        assert torch.equal(states[0]["probe"][name], states[1]["probe"][name])
        torch.testing.assert_close(states[0]["probe"][name], getattr(probe.probe, name).detach(), rtol=1e-3, atol=1e-4)
    assert states[0]["history"] == states[1]["history"] == pytest.approx(probe.history, abs=0.02)
    for seen, row in logged.items():
        assert rows(tmp_path / "two")[seen]["train/probe_loss"] == pytest.approx(row["train/probe_loss"], rel=1e-4)
    assert len(logged) == 5


def test_without_labels_it_says_so_before_a_step(tmp_path):
    class Bare(Toy):
        attribute_names = ()

        def __init__(self):
            super().__init__()
            self.attributes = self.attributes[:, :0]

    class Constant(Toy):
        attribute_names = ("Constant",)

        def __init__(self):
            super().__init__()
            self.attributes = self.attributes[:, 3:]

    for source in (Bare, Constant):
        model = new()
        start = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ZooError, match="no label of toy varies"):
            fit(tmp_path / source.__name__, model, source(), [ConcurrentProbe()], 5)
        assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


def test_a_model_that_cannot_encode_trains_without_it(tmp_path, capsys):
    model, probe = new(), ConcurrentProbe(every=16)
    model.can_encode = False
    saver = PeriodicCheckpoint(tmp_path, 10_000)
    trainer, logged = fit(tmp_path, model, Visible(), [TrainingMetricsLogger(16), probe, saver], 4)
    assert trainer.global_step == 4
    assert probe.latest == {}
    assert not any("probe" in name for row in logged.values() for name in row)
    assert capsys.readouterr().err.count("There is no linear probe: Tiny has no encoder.") == 1
    again = ConcurrentProbe(every=16)
    fit(tmp_path, model, Visible(), [TrainingMetricsLogger(16), again], 6, resume=tmp_path / "checkpoints" / "000000000064.ckpt")
