"""LTAE: the loss of methods 7, written out in float64."""

import pytest
import torch

from tests.models.games import assert_same_under_bf16_and_compiled, batch_for, conv, set_rng
from zoo.errors import ZooError
from zoo.models.ltae import LTAE
from zoo.nets.acai import ACAIBackbone

SIGMA, WEIGHT = 0.3, 0.7


def ltae(variant: str = "S", latent_dim: int = 5, **options) -> LTAE:
    torch.manual_seed(0)
    model = LTAE(backbone=conv(), latent_dim=latent_dim, variant=variant, **options).double()
    with torch.no_grad():  # away from where L = z
        model.alpha.uniform_(0.5, 2)
        model.beta.uniform_(-1, 1)
    return model


def written(model: LTAE, image: torch.Tensor, epsilon: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = model.encoder(image)
    latents, targets = [], []
    for code in z:  # one after the other: nothing is shared between images
        latents.append((code + model.beta) * model.alpha)
        targets.append((code - code.mean()) / (code.var(unbiased=False) + 1e-5).sqrt() if model.variant == "S" else
                       (code - code.min()) / (code.max() - code.min()))  # fmt: skip
    latent, target = torch.stack(latents), torch.stack(targets)
    reconstruction = ((image - model.decoder(latent + epsilon)) ** 2).sum() / image.numel()
    return reconstruction, ((target - latent) ** 2).sum() / latent.numel()


@pytest.mark.parametrize("variant", ["S", "M"])
def test_loss_and_gradient_equal_the_written_objective(variant):
    model = ltae(variant, sigma=SIGMA, weight=WEIGHT)
    batch = batch_for(model, 6)
    set_rng(model, 6)
    epsilon = SIGMA * (model.normal(6, 5) if variant == "S" else 2 * model.uniform(6, 5) - 1)
    set_rng(model, 6)
    found = model.losses(batch)
    reconstruction, target = written(model, batch.image, epsilon)
    torch.testing.assert_close(found["reconstruction"], reconstruction, rtol=1e-12, atol=0)
    torch.testing.assert_close(found["target"], target, rtol=1e-12, atol=0)
    parameters = model.param_groups()["autoencoder"]
    assert {id(p) for p in parameters} == {id(p) for p in model.parameters()}  # α and β among them
    ours = torch.autograd.grad(found["loss"], parameters)
    theirs = torch.autograd.grad(reconstruction + WEIGHT * target, parameters)
    for one, other in zip(ours, theirs, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("variant", ["S", "M"])
def test_targets_feel_neither_scale_nor_shift_of_codes_nor_neighbours(variant):
    model = ltae(variant)
    z = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    target = model.normalised(z)
    torch.testing.assert_close(model.normalised(100 * z - 7), target, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.normalised(z[1:2]), target[1:2], rtol=1e-12, atol=1e-12)
    if variant == "S":  # on the sphere on which N(0, I) concentrates
        torch.testing.assert_close(target.norm(dim=1), torch.full((4,), 5**0.5, dtype=torch.float64), rtol=1e-4, atol=0)
    else:
        assert torch.equal(target.amin(1), torch.zeros(4, dtype=torch.float64))
        torch.testing.assert_close(target.amax(1), torch.ones(4, dtype=torch.float64))
    assert model.normalised(torch.ones(2, 5, dtype=torch.float64)).isfinite().all()


def test_at_first_the_code_is_that_of_the_encoder_and_later_its_transform_without_noise():
    torch.manual_seed(0)
    fresh, model = LTAE(backbone=conv(), latent_dim=5, sigma=9.0), ltae(sigma=9.0)
    image = batch_for(fresh).image
    torch.testing.assert_close(fresh.encode(image), fresh.encoder(image))
    image = image.double()
    torch.testing.assert_close(model.encode(image), model.alpha * model.encoder(image) + model.alpha * model.beta)
    assert torch.equal(model.encode(image), model.encode(image))


@pytest.mark.parametrize("variant", ["S", "M"])
def test_two_ranks_feel_the_noise_of_one(variant):
    model = ltae(variant, sigma=SIGMA)
    batch = batch_for(model, 8)
    set_rng(model, 8)
    whole = model.losses(batch)
    halves = []
    for rank in range(2):
        model.set_batch_rng((3, 64), 4 * rank, 4, 8)
        halves.append(model.losses(type(batch)(*(part[4 * rank : 4 * rank + 4] for part in batch))))
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value, rtol=1e-12, atol=0)


def test_codes_of_a_fresh_encoder_are_standardised_over_images_before_the_first_step():
    """Else they are all alike, and their normalised form is one for all."""
    torch.manual_seed(0)
    model = LTAE(backbone=conv(), latent_dim=5).double()
    batch = batch_for(model, 40)
    before = model.encode(batch.image).detach()
    with torch.no_grad():
        model.initialize(batch)
    codes = model.encode(batch.image).detach()
    assert (before.std(0) / before.norm(dim=1).mean()).max() < 0.3
    torch.testing.assert_close(codes, (before - before.mean(0)) / before.std(0), rtol=1e-9, atol=1e-9)
    assert (model.normalised(codes).std(0) > 0.3).all()
    assert torch.equal(model.alpha, torch.ones(5).double())
    model.encoder[-1].weight.data.zero_()  # constant codes
    with torch.no_grad():
        model.initialize(batch)
    assert model.encode(batch.image).isfinite().all()


def test_samples_come_from_the_standard_normal_or_from_a_fitted_gaussian():
    assert ltae("S").prior.name == "normal"
    assert ltae("M").prior.name == "gaussian"


@pytest.mark.parametrize("variant", ["S", "M"])
def test_it_learns_sixteen_images_and_draws_codes_to_their_targets(variant):
    torch.manual_seed(0)
    model = LTAE(backbone=conv(), latent_dim=8, variant=variant)
    batch = batch_for(model, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(150):
        model.set_batch_rng((0, 16 * step), 0, 16, 16)
        optimizer.zero_grad()
        losses = model.losses(batch)
        losses["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.reconstruct(batch.image) - batch.image).square().mean()
    assert error < 0.5 * (batch.image - batch.image.mean(0)).square().mean()
    assert losses["target"] < 0.05


def test_the_same_under_bf16_autocast_and_compiled():
    torch.manual_seed(0)
    assert_same_under_bf16_and_compiled(LTAE(backbone=conv(), latent_dim=5))


def test_a_backbone_whose_encoder_does_not_end_with_a_linear_layer_is_refused():
    with pytest.raises(ZooError, match="encoders of a ACAIBackbone do not end with a linear layer"):
        LTAE(backbone=ACAIBackbone(16, 1), latent_dim=16)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"variant": "X"}, "model.variant is 'X'; it must be S"),
    ({"latent_dim": 1}, "model.latent_dim=1 must be at least 2"),
    ({"sigma": -0.1}, "model.sigma=-0.1"),
    ({"weight": -1}, "model.weight=-1"),
])  # fmt: skip
def test_refused(options, sentence):
    with pytest.raises(ZooError, match=sentence):
        LTAE(backbone=conv(), **{"latent_dim": 4, **options})
