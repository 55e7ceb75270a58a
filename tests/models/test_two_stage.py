"""The two-stage model: the density of standardised codes of an autoencoder that stays as it is; and GLF's joint training (1905.10485)."""

import math

import pytest
import torch
from torch import nn

from tests.models.games import BatchNormBackbone, batch_for, conv, gan, gradients, udt, vae
from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.models.ae import AE
from zoo.models.base import Autoencoder
from zoo.models.two_stage import TwoStage
from zoo.nets.flows import Flow
from zoo.nets.latent_flows import CouplingFlow

DIM = 4


class Toy(Flow):
    """A volume-changing coupling after an affine layer that starts from data."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.net = nn.Sequential(nn.Linear(dim // 2, 8), nn.Tanh(), nn.Linear(8, dim - dim // 2))

    def initialize(self, x):
        self.shift.data.copy_(-x.median(0).values)
        return self(x)[0]

    def forward(self, x):
        kept, moved = (x + self.shift).tensor_split([x.shape[1] // 2], 1)
        log_scale = self.net(kept)
        return torch.cat([kept, moved * log_scale.exp()], 1), log_scale.sum(1)

    def inverse(self, z):
        kept, moved = z.tensor_split([z.shape[1] // 2], 1)
        return torch.cat([kept, moved * (-self.net(kept)).exp()], 1) - self.shift


def ae(backbone=None, latent_dim: int = DIM) -> AE:
    torch.manual_seed(3)
    return AE(backbone=backbone or conv(), latent_dim=latent_dim)


def two_stage(autoencoder=None, start: bool = True, **options) -> TwoStage:
    """Ready for its second stage, unless told otherwise."""
    first = autoencoder or ae()
    torch.manual_seed(4)
    model = TwoStage(first, first.latent_dim, Toy(first.latent_dim), **options)
    if start:
        model.prior.fitted.fill_(True)
    return model


def reader(model: Autoencoder, train: int = 40, val: int = 12):
    """`read` of a store: even positions are training images, odd ones validation images."""

    def read(split):
        batch = batch_for(model, train if split == "train" else val, seed=len(split))
        whole = batch._replace(index=2 * batch.index + (split == "val"))
        return [Batch(*parts) for parts in zip(*(part.split(8) for part in whole), strict=True)]

    return read


def joined(batches) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


@torch.no_grad()
def looked(autoencoder=None) -> tuple[TwoStage, Batch]:
    """A model that has looked at its data, and all of the training images."""
    model = two_stage(autoencoder, start=False).double()
    model.prepare_data_cache(reader(model))
    return model, joined(reader(model)("train"))


def test_the_loss_is_the_exact_density_of_the_codes():
    """Standardised by hand; the flow's Jacobian by autograd; the normal density by torch.distributions."""
    model, images = looked()
    codes = model.autoencoder.encode(images.image).detach()
    mean, scale = codes.mean(0), codes.std(0)
    standard = torch.distributions.MultivariateNormal(torch.zeros(DIM, dtype=torch.float64), torch.eye(DIM, dtype=torch.float64))

    def to_normal(code):
        return model.prior.transform(((code - mean) / scale)[None])[0][0]

    expected = []
    for code in codes[:8]:
        jacobian = torch.autograd.functional.jacobian(to_normal, code)
        expected.append(-(standard.log_prob(to_normal(code)) + torch.linalg.slogdet(jacobian).logabsdet))
    some = Batch(*(part[:8] for part in images))
    torch.testing.assert_close(model.losses(some)["loss"], torch.stack(expected).mean(), rtol=1e-12, atol=1e-12)


def test_the_first_session_standardises_by_the_training_codes_and_starts_the_flow_from_them():
    model, images = looked()
    codes = model.encode(images.image).detach()
    torch.testing.assert_close(model.prior.mean, codes.mean(0))
    torch.testing.assert_close(model.prior.scale, codes.std(0))
    standardised = (codes - codes.mean(0)) / codes.std(0)
    torch.testing.assert_close(model.prior.transform.shift.detach(), -standardised.median(0).values)


def test_a_later_session_only_fills_its_table():
    model, _ = looked()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.table = None
    with torch.no_grad():
        model.prepare_data_cache(reader(model, train=17))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.table is not None
    assert not [name for name in before if "table" in name]  # in no checkpoint


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_step_reads_codes_by_position_and_no_image(split):
    model, _ = looked()
    batch = joined(reader(model)(split))
    order = torch.randperm(len(batch.index), generator=torch.Generator().manual_seed(0))[:5]
    picked = Batch(torch.full_like(batch.image[:5], float("nan")), batch.attributes[order], batch.index[order])
    expected = -model.prior.log_prob(model.encode(batch.image[order])).mean()
    torch.testing.assert_close(model.losses(picked)["loss"], expected, rtol=1e-12, atol=1e-12)


def test_a_tenth_of_the_training_codes_is_held_out():
    model, images = looked()
    codes = model.encode(images.image).detach()
    assert torch.equal(model.held_out, codes[9::10])
    assert torch.equal(model.table[images.index[9::10]], codes[8::10])  # training gets to see the neighbour's
    others = torch.arange(40) % 10 != 9
    assert torch.equal(model.table[images.index[others]], codes[others])


def test_locate_nonfinite_names_the_layer_of_a_flow():
    model, images = looked()
    model.prior.transform = CouplingFlow(DIM, transforms=3, hidden=4).double()
    assert model.locate_nonfinite(images) == ""
    [*model.prior.transform.layers[1].parameters()][-1].data.fill_(float("nan"))
    assert model.locate_nonfinite(images) == "the flow, layer 2 of 3"
    model.autoencoder.encode = lambda image, attributes=None: image.new_full((len(image), DIM), float("inf"))
    assert model.locate_nonfinite(images) == "the codes"


def test_images_that_nobody_looked_at_do_not_pass_for_others():
    model, images = looked()
    unknown = Batch(images.image[:2], images.attributes[:2], torch.tensor([0, 25]))  # 25 would be the validation image after the last
    assert model.losses(unknown)["loss"].isnan()
    model.on_train_end()
    expected = -model.prior.log_prob(model.encode(images.image[:2])).mean()
    torch.testing.assert_close(model.losses(unknown)["loss"], expected)


@pytest.mark.parametrize("cached", [True, False])
def test_the_frozen_stage_adds_no_gradient_memory(cached):
    """Bytes saved for the backward pass do not depend on the size of the images, and none of the autoencoder's weights gets a gradient."""
    saved = {}
    for size in (16, 32):
        model = two_stage(ae(conv(size)))
        batch = batch_for(model, 6)
        if cached:
            with torch.no_grad():
                model.prepare_data_cache(lambda split, batch=batch: [batch])
        kept: list[int] = []

        def pack(tensor, kept=kept):
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.losses(batch)["loss"]
        loss.backward()
        saved[size] = sum(kept)
        assert all(parameter.grad is None for parameter in model.autoencoder.parameters())
        assert all(parameter.grad is not None for parameter in model.prior.transform.parameters())
    assert saved[16] == saved[32] > 0
    assert saved[16] < batch_for(model, 6).image.nbytes


def test_the_autoencoder_stays_what_it_was():
    """Statistics of BatchNorm, too, also where images are encoded."""
    trained = ae(BatchNormBackbone())
    model = two_stage(ae(BatchNormBackbone()))
    model.start_from(trained)
    model.train()
    assert not any(module.training for module in model.autoencoder.modules())
    assert model.prior.training
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    flow = {name: value.clone() for name, value in model.prior.transform.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        model.losses(batch_for(model, 6))["loss"].backward()
        optimizer.step()
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.autoencoder.state_dict().items())
    assert not any(torch.equal(value, flow[name]) for name, value in model.prior.transform.state_dict().items())


def test_all_else_is_the_autoencoders():
    trained = udt(conv(), latent_dim=DIM)
    model = two_stage(trained).eval()
    trained.eval()
    batch = batch_for(model, 4)
    assert (model.reads_attributes, model.batch_multiple, model.image_shape) == (True, 2, (1, 16, 16))
    codes = trained.encode(batch.image, batch.attributes)
    assert torch.equal(model.encode(batch.image, batch.attributes), codes)
    assert not torch.equal(codes, trained.encode(batch.image, 1 - batch.attributes))
    assert torch.equal(model.latents_for_prior(batch.image, batch.attributes), codes)
    assert torch.equal(model.reconstruct(batch.image, batch.attributes), trained.reconstruct(batch.image, batch.attributes))
    assert torch.equal(model.interpolate(codes[:2], codes[2:], 3), trained.interpolate(codes[:2], codes[2:], 3))
    drawn = model.prior.sample(5, torch.Generator().manual_seed(1))
    assert torch.equal(model.sample(5, torch.Generator().manual_seed(1)), trained.decode(drawn))


def test_its_prior_is_the_flow_and_needs_no_other_fit():
    model = two_stage()
    assert (model.prior.name, model.prior.needs_fit) == ("flow", False)
    assert list(model.param_groups()) == ["flow"]
    assert {id(p) for p in model.param_groups()["flow"]} == {id(p) for p in model.parameters() if p.requires_grad}


def test_samples_follow_the_density_that_is_trained():
    """Importance weights of samples from a wide normal average to 1."""
    model, _ = looked()
    at_least_float32 = torch.distributions.Normal(model.prior.mean, 3 * model.prior.scale)
    torch.manual_seed(0)
    points = at_least_float32.sample((200_000,))
    with torch.no_grad():
        weights = (model.prior.log_prob(points) - at_least_float32.log_prob(points).sum(1)).exp()
        drawn = model.prior.sample(100_000, torch.Generator().manual_seed(2))
    assert weights.mean().item() == pytest.approx(1, abs=0.02)
    moments = (weights[:, None] * points).mean(0)
    assert ((drawn.mean(0) - moments).abs() < 0.05 * model.prior.scale).all()


def joint(autoencoder=None) -> TwoStage:
    model = two_stage(autoencoder, start=False, joint=True).double()
    with torch.no_grad():
        model.initialize(batch_for(model, 20, seed=9))
    return model


def test_jointly_the_autoencoder_feels_the_squared_error_alone_and_the_flow_the_likelihood_alone():
    model = joint()
    model.start_from(None)
    batch = batch_for(model, 6)
    found = model.losses(batch)
    own, flow = model.param_groups()["autoencoder"], model.param_groups()["flow"]
    alone = ((batch.image - model.autoencoder.decoder(model.autoencoder.encoder(batch.image))) ** 2).mean()
    for ours, theirs in zip(gradients(found["loss"], own), gradients(alone, own), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.any()
    code = model.autoencoder.encoder(batch.image).detach()
    image, log_det = model.prior.transform(code)  # neither shifted nor scaled beforehand
    nll = (image.square().sum(1) / 2 + DIM / 2 * math.log(2 * math.pi) - log_det).mean()
    torch.testing.assert_close(found["nll"], nll, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(found["loss"], flow), gradients(nll, flow), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert ours.any()
    torch.testing.assert_close(found["loss"], alone + nll, rtol=1e-12, atol=0)


def test_jointly_nothing_is_cached_and_the_flow_starts_from_the_first_codes():
    model = joint()
    codes = model.encode(batch_for(model, 20, seed=9).image).detach()
    torch.testing.assert_close(model.prior.transform.shift.detach(), -codes.median(0).values)
    model.prepare_data_cache(lambda split: pytest.fail("it looked"))
    assert model.table is None
    assert model.autoencoder.training


@pytest.mark.parametrize("kind", ["two stages", "joint"])
def test_in_bf16_and_compiled_as_in_float32(kind):
    model = two_stage(joint=kind == "joint")
    with torch.no_grad():
        model.initialize(batch_for(model, 20, seed=9))
        model.prepare_data_cache(reader(model))
    batch = joined(reader(model)("train"))
    eager = model.losses(batch)
    compiled = torch.compile(model.losses, fullgraph=True, backend="eager")(batch)
    with torch.autocast("cpu", torch.bfloat16):
        lower = model.losses(batch)
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value)
        torch.testing.assert_close(lower[name], value, rtol=0.05, atol=0.1)
        assert lower[name].dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, 1e-20, -137.123])
def test_constant_dimensions_are_named(value):
    first = ae(latent_dim=8)
    head = first.encoder[-1]
    with torch.no_grad():
        head.weight[[3, 7]] = 0
        head.bias[[3, 7]] = value
        head.weight[5] *= 1e-9  # little is not nothing
        head.bias[5] = 0
    model = two_stage(first, start=False)
    with torch.no_grad(), pytest.raises(ZooError, match=r"dimension 3, 7 is constant.*\.$"):
        model.prepare_data_cache(reader(model))


def test_codes_that_are_not_finite_are_refused():
    first = ae()
    first.encoder[-1].bias.data[2] = float("nan")
    model = two_stage(first, start=False)
    with torch.no_grad(), pytest.raises(ZooError, match="not finite; the model has diverged"):
        model.prepare_data_cache(reader(model))


REFUSED = {
    "nothing": (lambda: None, "needs a trained autoencoder.*pretrain.run=RUN"),
    "kind": (lambda: vae(), "of the kind VAE, model.autoencoder AE"),
    "no encoder": (lambda: gan(), "must encode images, but a GAN cannot"),
    "nested": (lambda: two_stage(), "itself a TwoStage"),
    "image size": (lambda: ae(conv(32)), "encodes 1×32×32 into 4.*model.autoencoder 1×16×16 into 4.*data.image_size"),
    "latent size": (lambda: ae(latent_dim=5), "into 5 dimensions.*into 4 dimensions.*model.latent_dim"),
    "width": (lambda: ae(conv(width=32, max_width=32)), "other networks.*same settings"),
    "output range": (lambda: ae(conv(output="linear")), "other networks.*same settings"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_first_stage_that_does_not_fit_is_refused_in_one_sentence(case):
    make, sentence = REFUSED[case]
    model, trained = two_stage(), make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError, match=sentence) as refusal:
        model.start_from(trained)
    assert str(refusal.value).endswith(".")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: two_stage(gan()), "must encode images, but a GAN cannot"),
    (lambda: two_stage(two_stage()), "itself a TwoStage"),
    (lambda: TwoStage(ae(), 5, Toy(5)), "latent_dim=5 is not that of model.autoencoder, 4"),
    (lambda: two_stage(vae(), joint=True), "joint=true trains a plain AE.*not a VAE"),
    (lambda: two_stage(joint=True).start_from(ae()), "from scratch; add pretrain=none"),
    (lambda: two_stage(check_every_images=0), "check_every_images=0"),
    (lambda: two_stage(patience=0), "patience=0"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused_in_one_sentence(make, sentence):
    with pytest.raises(ZooError, match=sentence):
        make()
