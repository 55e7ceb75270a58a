import math

import pytest
import torch
from torch import Tensor

from tests.evaluation.numbers import evaluate
from zoo.batch import Batch
from zoo.data.arrays import Arrays
from zoo.data.lines import Lines
from zoo.data.store import prepare
from zoo.errors import ZooError
from zoo.evaluation import interpolations, samples
from zoo.evaluation.context import EvalContext, rows_of
from zoo.evaluation.descriptors import METRICS, PATHS, selected, selected_priors
from zoo.evaluation.protocol import GROUPS
from zoo.metrics.interpolations import mean_distance_and_smoothness
from zoo.models.ae import AE
from zoo.models.base import Autoencoder
from zoo.nets.conv import ConvBackbone
from zoo.nets.latent_flows import CouplingFlow
from zoo.priors import Flow, Prior
from zoo.runs.measurements import Measurement


class Memory(Autoencoder):
    """Knows the images of a store by heart: the code of an image is its position and, to be decodable linearly, its factors."""

    def __init__(self, store, split: str):
        super().__init__((3, 32, 32), 1 + store.factors.shape[1])
        self.rows = torch.from_numpy(store.indices(split))
        self.images = torch.from_numpy(store.images[:]).float() / 127.5 - 1
        self.factors = torch.from_numpy(store.factors)
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.prior = Recall(self.latent_dim, self.rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.anchor}

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        found = (image.flatten(1)[:, None] - self.images.flatten(1)[None]).abs().amax(2).argmin(1) if len(image) < 3 else None
        nearest = torch.cdist(image.flatten(1), self.images.flatten(1)).argmin(1) if found is None else found
        return torch.cat([nearest[:, None].float(), self.factors[nearest]], 1)

    def decode(self, latent: Tensor) -> Tensor:
        return self.images[latent[:, 0].round().long().clamp(0, len(self.images) - 1)]


class Labels(Autoencoder):
    """Encodes an image of a store as the one-hot label of the image that `whose` names for it."""

    def __init__(self, store, whose: Tensor):
        super().__init__((1, 28, 28), store.attributes.shape[1])
        self.images = torch.from_numpy(store.images[:]).float().flatten(1) / 127.5 - 1
        self.labels = torch.from_numpy(store.attributes).float()[whose]
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.labels[torch.cdist(image.flatten(1), self.images).argmin(1)]


class Recall(Prior):
    """Each of some positions once, in order."""

    name = "recall"
    needs_fit = False

    def __init__(self, dim: int, rows: Tensor):
        super().__init__(dim)
        self.register_buffer("rows", rows.float(), persistent=False)
        self.drawn = 0

    def sample(self, count, generator=None):
        chosen = self.rows[self.drawn : self.drawn + count]
        self.drawn = (self.drawn + count) % len(self.rows)
        return torch.nn.functional.pad(chosen[:, None], (0, self.dim - 1))

    def log_prob(self, latents):
        return torch.zeros(len(latents))


@torch.no_grad()
def test_a_model_that_knows_the_data_by_heart_gets_the_best_numbers(context, faces):
    numbers = evaluate(context(Memory(faces, "test")), ["samples", "reconstructions", "representation"])
    assert numbers["samples/recall/frechet@200"] == pytest.approx(0, abs=1e-4)
    assert numbers["samples/recall/kernel_distance@200"] < 1e-3
    for name in ("precision", "recall", "coverage"):
        assert numbers[f"samples/recall/{name}@200"] == 1
    assert numbers["reconstructions/mse@200"] < 1e-12
    assert numbers["reconstructions/psnr@200"] == pytest.approx(100)
    assert numbers["reconstructions/ssim@200"] == pytest.approx(1)
    assert numbers["reconstructions/frechet@200"] == pytest.approx(0, abs=1e-4)
    assert numbers["representation/factor_r2@200"] == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_an_untrained_model_scores_worse_wherever_it_should(context, faces, untrained):
    good, bad = evaluate(context(Memory(faces, "test"))), untrained
    for name in ("frechet", "kernel_distance"):
        assert bad[f"samples/normal/{name}@200"] > 10 * max(good[f"samples/recall/{name}@200"], 0) + 0.1
    for name in ("recall", "coverage"):
        assert bad[f"samples/normal/{name}@200"] < 0.2
    for name in ("mse", "frechet"):
        assert bad[f"reconstructions/{name}@200"] > good[f"reconstructions/{name}@200"] + 0.01
    for name in ("psnr", "ssim"):
        assert bad[f"reconstructions/{name}@200"] < good[f"reconstructions/{name}@200"] / 2
    assert bad["interpolations/frechet@200"] > 1
    for name in ("linear_balanced_accuracy", "linear_average_precision", "factor_r2"):
        assert bad[f"representation/{name}@200"] < good[f"representation/{name}@200"] - 0.05
    assert bad["likelihood/elbo_bits_per_dim@200"] > 7


@torch.no_grad()
def test_every_number_is_finite_and_named_after_its_count(context, untrained):
    assert all(math.isfinite(value) for value in untrained.values())
    assert {name.split("/")[0] for name in untrained} == set(GROUPS) - {"transfer"}  # which is UDT's
    counts = {name.partition("@")[0]: int(name.partition("@")[2]) for name in untrained}
    assert counts["samples/normal/frechet"] == counts["likelihood/iw64_bits_per_dim"] == counts["interpolations/smoothness"] == 200
    assert counts["attributes/success"] == 100
    some = evaluate(context(count=40), ["iw64_bits_per_dim", "smoothness", "mse"])
    wanted = {"likelihood/iw64_bits_per_dim@40", "interpolations/smoothness@40", "reconstructions/mse@40"}
    assert wanted == set(some)
    for name, value in some.items():  # other images, other numbers
        assert value != untrained[name.replace("@40", "@200")]


@torch.no_grad()
def test_only_what_is_selected_is_measured(context):
    numbers = evaluate(context(count=64), ["frechet"])
    assert set(numbers) == {
        *(f"samples/{prior}/frechet@64" for prior in ("normal", "gaussian", "mixture")),
        *("reconstructions/frechet@64", "interpolations/frechet@64"),
    }
    assert set(evaluate(context(count=64), ["mse", "likelihood"])) == {
        "reconstructions/mse@64", "likelihood/elbo_bits_per_dim@64", "likelihood/iw64_bits_per_dim@64",
    }  # fmt: skip


@torch.no_grad()
def test_priors_are_those_that_are_named_in_the_order_of_tables(context, monkeypatch):
    monkeypatch.setitem(samples.FITTED, "flow", lambda dim: Flow(dim, CouplingFlow(dim, 2, 8), steps=20))
    numbers = evaluate(context(count=64, priors=selected_priors(["flow", "gaussian"])), ["latent_nll"])
    assert list(numbers) == [f"samples/{prior}/latent_nll@64" for prior in ("normal", "gaussian", "flow")]
    assert len(set(numbers.values())) == 3
    assert list(evaluate(context(count=64, priors=()), ["latent_nll"])) == ["samples/normal/latent_nll@64"]


@torch.no_grad()
def test_codes_without_a_flow_prior_are_told_and_still_measured(context):
    torch.manual_seed(0)
    model = AE(backbone=ConvBackbone(image_size=32, channels=3, width=16), latent_dim=8)
    last = model.encoder[-1]
    last.weight[3], last.bias[3] = 0, 0.5
    measured = context(model, count=64, priors=("mixture", "flow"))
    assert list(evaluate(measured, ["latent_nll"])) == [f"samples/{prior}/latent_nll@64" for prior in ("gaussian", "mixture")]
    reason = "A flow cannot be fitted, as latent dimension 3 is constant; lower model.latent_dim, or fit a Gaussian."
    assert measured.notes == [f"There is no flow prior here: {reason}"]


@torch.no_grad()
def test_an_own_flow_is_fitted_anew_to_the_weights_at_hand(context):
    torch.manual_seed(0)
    own = Flow(8, CouplingFlow(8, 2, 8), steps=20)
    own.fit(torch.randn(100, 8) * 100)
    model = AE(backbone=ConvBackbone(image_size=32, channels=3, width=16), latent_dim=8, prior=own)
    measured = context(model, count=64, priors=("gaussian", "flow"))
    numbers = evaluate(measured, ["latent_nll"])
    assert list(numbers) == [f"samples/{prior}/latent_nll@64" for prior in ("flow", "gaussian")]
    fitted = samples.priors(measured)["flow"]
    assert fitted is not own
    assert fitted.scale.max() < 10 < own.scale.max()


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ZooError, match=r"metrics=frechett is not known; did you mean 'frechet'\?"):
        selected(["frechett"])
    assert selected("samples") == ["samples"]
    assert selected(None) is None


@torch.no_grad()
def test_a_diverged_model_is_refused(context):
    measured = context(count=64)
    next(measured.model.decoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(ZooError, match="not finite: it has diverged"):
        evaluate(measured, ["reconstructions"])


@torch.no_grad()
def test_classes_are_probed_and_clustered_with_their_own_labels(tmp_path, digits):
    """Codes that are the labels are read and clustered perfectly; codes of other images' labels are not."""
    store = prepare(Arrays("mnist", digits), tmp_path)
    model = Labels(store, torch.arange(len(store)))
    numbers = evaluate(EvalContext(model, store, "train"), ["representation"])
    assert numbers["representation/linear_accuracy@36"] == 1
    assert numbers["representation/clustering_accuracy@36"] == 1
    wrong = Labels(store, torch.randperm(len(store), generator=torch.Generator().manual_seed(0)))
    assert evaluate(EvalContext(wrong, store, "train"), ["representation"])["representation/clustering_accuracy@36"] < 0.7


@torch.no_grad()
def test_lines_are_scored_by_the_metrics_of_acai(tmp_path):
    store = prepare(Lines(train=32, val=16, test=64), tmp_path)
    torch.manual_seed(0)
    model = AE(backbone=ConvBackbone(image_size=32, channels=1, width=16), latent_dim=8).eval()
    measured = EvalContext(model, store)
    numbers = evaluate(measured, ["mean_distance", "line_smoothness", "line_undefined"])
    codes = model.encode(measured.batch(measured.positions("test", None)).image)
    expected = mean_distance_and_smoothness(model.interpolate(codes[:32], codes[32:], 16))
    defined = {"mean_distance": expected.mean_distance, "line_undefined": expected.undefined}  # untrained: no line ever turns
    assert numbers == pytest.approx({f"interpolations/{name}@64": value for name, value in defined.items()}, rel=1e-4)
    assert "interpolations/line_smoothness@64 is not defined here." in measured.notes


@torch.no_grad()
def test_too_few_images_are_refused(context):
    with pytest.raises(ZooError, match="8 images are too few"):
        evaluate(context(count=8))


@pytest.mark.slow
@torch.no_grad()
def test_the_same_evaluation_twice_gives_the_same_numbers(context, untrained):
    torch.manual_seed(123)  # nothing may depend on the global random state
    assert evaluate(context()) == untrained
    other = evaluate(context(seed=1), ["samples"])
    assert all(other[name] != untrained[name] for name in other if "frechet" in name)


@torch.no_grad()
def test_without_labels_nothing_is_measured_in_feature_space(context):
    numbers = evaluate(context(features=None, count=64), ["samples", "reconstructions", "interpolations"])
    assert {name.split("/")[-1] for name in numbers} == {"latent_nll@64", "mse@64", "psnr@64", "ssim@64", "laplacian_energy_ratio@64"}


@torch.no_grad()
def test_a_model_that_cannot_encode_is_measured_by_its_samples_only(context):
    torch.manual_seed(0)
    model = AE(backbone=ConvBackbone(image_size=32, channels=3, width=16), latent_dim=8)
    model.can_encode = False
    numbers = evaluate(context(model, count=64))
    assert {name.split("/")[0] for name in numbers} == {"samples"}
    assert not any("latent_nll" in name for name in numbers)


def test_every_group_declares_its_metrics():
    assert list(GROUPS) == list(METRICS)


def test_records_hold_the_network_whose_features_they_depend_on_and_the_n_of_their_metric(context):
    measured = context(count=64)

    def record(group, metric, **of):
        (found,) = measured.records(group, {metric: 0.5}, **of)
        return found

    assert record("samples", "frechet", prior="normal") == Measurement("samples", "frechet", 0.5, "test", 64, "normal", "classifier")
    measured.features.name = "inception"
    try:
        assert record("samples", "frechet", prior="normal").features == "inception"
        assert record("samples", "latent_nll", prior="normal").features is None
        measured.count = 10_000
        assert record("reconstructions", "mse") == Measurement("reconstructions", "mse", 0.5, "test", 10_000)
        assert record("interpolations", "smoothness").n == PATHS
        assert samples.kernel_name(measured) == "kid"
    finally:
        measured.features.name = "classifier"
    measured.wanted = {"mse"}
    assert measured.records("reconstructions", {"psnr": 1.0}) == []
    with pytest.raises(KeyError, match="mze"):
        context(count=64).records("reconstructions", {"mze": 0.5})  # every metric is declared


@torch.no_grad()
def test_the_kid_of_a_classifier_is_said_to_be_none(context):
    measured = context(count=64)
    assert evaluate(measured, ["kid"]) == {}
    assert measured.notes == ["kid is not measured: the kernel distance is called kid with features=inception alone."]


def test_everyone_has_another_partner():
    partners = interpolations.partners_of(101, seed=0)
    assert sorted(partners.tolist()) == list(range(101))
    assert not (partners == torch.arange(101)).any()


def test_rows_come_in_order_and_once():
    rows = rows_of(300, "numbers", lambda start, stop: torch.arange(start, stop)[:, None] * 1.0, size=7)
    assert torch.equal(rows[:, 0], torch.arange(300.0))
