"""VAE-GAN against the formulas of 1512.09300 with the signs that train a GAN (methods 5.1), written out with ordinary forward passes.

As in the authors' code, x and x̃ go through the discriminator as one batch for their features, and x and the fakes as one batch for the
game; this matters with BatchNorm alone.
"""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from tests.models.games import (
    BatchNormBackbone,
    assert_same_statistics,
    batch_for,
    conv,
    deviation,
    losses,
    overfit,
    set_rng,
    silent,
    vaegan,
)
from zoo.errors import ZooError
from zoo.models.training_config import TrainingConfig
from zoo.models.vaegan import CHOICES
from zoo.nets.vaegan import VAEGANBackbone

BACKBONES = {"none": conv, "group": lambda: conv(norm="group"), "batch": BatchNormBackbone}
PUBLISHED = {"objective": "minimax", "reconstruction": "features", "fakes": "prior"}


def written(model, batch, objective="non_saturating", reconstruction="features", fakes="both", gamma=0.01, pixel_scale=0.2):
    x, count = batch.image, len(batch.image)
    set_rng(model, count)
    noise, sampled = model.normal(count, 2, model.latent_dim).unbind(1)
    mean, log_variance = model.encoder(x).chunk(2, 1)
    posterior = Normal(mean, (log_variance / 2).exp())
    tilde, drawn = model.decoder(posterior.loc + posterior.scale * noise), model.decoder(sampled)

    prior = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()
    real, features = model.discriminator(torch.cat([x, tilde]))[1].split(count)
    of_features = 0.5 * ((real.detach() - features) ** 2).sum(1).mean()
    of_pixels = 0.5 * (((x - tilde) / pixel_scale) ** 2).sum((1, 2, 3)).mean()
    distance = {"features": of_features, "pixels": of_pixels, "both": of_features + of_pixels}[reconstruction]

    images = [x, tilde, drawn] if fakes == "both" else [x, drawn]
    of_real, *of_fakes = torch.sigmoid(model.discriminator(torch.cat(images))[0]).split(count)
    v = -torch.log(of_real).mean() - sum(torch.log(1 - of_fake).mean() for of_fake in of_fakes)
    game = {"minimax": -v, "non_saturating": -sum(torch.log(of_fake).mean() for of_fake in of_fakes)}[objective]
    return {"encoder": prior + distance, "decoder": gamma * distance + game, "discriminator": v}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("choice", product(*CHOICES.values()), ids=" ".join)
def test_the_one_loss_gives_each_group_the_gradient_of_its_own_objective(backbone, choice):
    options = dict(zip(CHOICES, choice, strict=True))
    model = vaegan(BACKBONES[backbone](), **options).double()
    batch = batch_for(model, 6)
    found = losses(model, batch)
    assert deviation(model, found["loss"], written(model, batch, **options)) < 1e-12


def test_weights_scale_and_layer_are_those_of_the_options():
    options = {"gamma": 0.3, "pixel_scale": 0.5, "reconstruction": "both"}
    model = vaegan(feature_layer=1, **options).double()
    batch = batch_for(model, 6)
    found = losses(model, batch)
    assert deviation(model, found["loss"], written(model, batch, **options)) < 1e-12
    assert found["loss"] == found["rate"] + found["distortion"] + found["g_loss"] + found["d_loss_real"] + 2 * found["d_loss_fake"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [PUBLISHED, {}], ids=["published", "default"])
def test_the_published_networks(options):
    model = vaegan(VAEGANBackbone(64, 1), feature_layer=4, **options).double()
    batch = batch_for(model, 3)
    found = losses(model, batch)
    assert deviation(model, found["loss"], written(model, batch, **options)) < 1e-10


@pytest.mark.parametrize("choice", product(*CHOICES.values()), ids=" ".join)
def test_no_term_moves_whom_it_does_not_concern(choice):
    model = vaegan(BatchNormBackbone(), **dict(zip(CHOICES, choice, strict=True))).double()
    found = losses(model, batch_for(model, 6))
    assert silent(model, found["g_loss"], "encoder")  # no game in the encoder
    for term in ("rate", "distortion", "g_loss"):
        assert silent(model, found[term], "discriminator")  # no reconstruction in the discriminator
    for term in ("d_loss_real", "d_loss_fake"):
        assert silent(model, found[term], "encoder")
        assert silent(model, found[term], "decoder")
        assert not silent(model, found[term], "discriminator")
    assert silent(model, found["rate"], "decoder")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_perfect_reconstruction_costs_nothing(backbone):
    """R(x, x) = 0: the features of both come from the same batch."""
    model = vaegan(BACKBONES[backbone](), gamma=1.0).double()
    batch = batch_for(model, 6)

    class Sure(nn.Module):
        def forward(self, image):
            return torch.cat([torch.full((len(image), 4), 9.0), torch.full((len(image), 4), -10.0)], 1).double()

    class Memory(nn.Module):
        def forward(self, latent):
            return torch.where(latent.mean(1)[:, None, None, None] > 8, batch.image, batch.image.flip(0) / 2)

    model.encoder, model.decoder = Sure(), Memory()
    found = losses(model, batch)
    assert found["distortion"] < 1e-20


@pytest.mark.parametrize("fakes", CHOICES["fakes"])
def test_a_step_advances_the_discriminators_statistics_once_by_real_and_fake_images_together(fakes):
    model, twin = (vaegan(BatchNormBackbone(), fakes=fakes) for _ in range(2))
    batch = batch_for(model, 6)
    losses(model, batch)
    set_rng(twin, 6)
    noise, sampled = twin.normal(6, 2, 4).unbind(1)
    mean, log_variance = twin.encoder(batch.image).chunk(2, 1)
    images = [batch.image, twin.decoder(mean + (log_variance / 2).exp() * noise), twin.decoder(sampled)]
    twin.discriminator(torch.cat(images if fakes == "both" else images[::2]))
    assert_same_statistics(model.discriminator, twin.discriminator)
    assert_same_statistics(model.encoder, twin.encoder)
    assert_same_statistics(model.decoder, twin.decoder, batches=2)  # reconstructions and samples


@pytest.mark.parametrize("choice", product(*CHOICES.values()), ids=" ".join)
def test_the_same_under_bf16_autocast(choice):
    options = dict(zip(CHOICES, choice, strict=True))
    model = vaegan(**options)
    batch = batch_for(model, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model, batch)
        objectives = written(model, batch, **options)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in found.values())
    assert deviation(model, found["loss"], objectives) < 0.1


def test_a_sure_discriminator_makes_no_infinite_loss():
    for objective in CHOICES["objective"]:
        model = vaegan(objective=objective)
        model.discriminator.head[-1].bias.data.fill_(-1000.0)
        found = losses(model, batch_for(model))
        assert all(value.isfinite() for value in found.values())
        torch.testing.assert_close(found["d_loss_real"], torch.tensor(1000.0), rtol=0.01, atol=0)


def test_the_value_of_the_game():
    """A discriminator that knows nothing costs log 2 for each kind of image; so does the decoder's game, or minus that."""
    for objective, fakes in product(CHOICES["objective"], CHOICES["fakes"]):
        model = vaegan(objective=objective, fakes=fakes, gamma=0.0).double()
        for parameter in model.discriminator.parameters():
            parameter.data.zero_()
        found = losses(model, batch_for(model))
        half = torch.tensor(2.0, dtype=torch.float64).log()
        torch.testing.assert_close(found["d_loss_real"], half)
        torch.testing.assert_close(found["d_loss_fake"], half)
        kinds = 2 if fakes == "both" else 1
        torch.testing.assert_close(found["g_loss"], half * (kinds if objective == "non_saturating" else -kinds))


# The paper's equilibrium ------------------------------------------------------------------------------------------------


def playing(model, pieces: int = 1, others: tuple[float, float] | None = None):
    """The model as if under a Trainer; `others` are the costs on a second rank."""

    def reduce(d_losses, reduce_op):
        assert reduce_op == "mean"
        return d_losses if others is None else (d_losses + torch.tensor(others)) / 2

    model.training_config = TrainingConfig(batch_size=8, max_images=8)
    model.trainer = SimpleNamespace(accumulate_grad_batches=pieces, strategy=SimpleNamespace(reduce=reduce))
    return model


GATES = {
    (0.69, 0.69): [],
    (0.34, 1.02): [],
    (0.32, 0.69): ["discriminator"],
    (0.69, 0.32): ["discriminator"],
    (0.10, 0.10): ["discriminator"],
    (1.04, 0.69): ["decoder"],
    (0.69, 1.04): ["decoder"],
    (2.00, 2.00): ["decoder"],
    (0.32, 1.04): [],
    (1.04, 0.32): [],
}


@pytest.mark.parametrize("d_losses", GATES)
def test_who_is_frozen_outside_of_the_equilibrium(d_losses):
    model = playing(vaegan(margin=0.35))
    model.d_losses = torch.tensor(d_losses)
    assert list(model.frozen_groups()) == GATES[d_losses]
    model.margin = None
    assert list(model.frozen_groups()) == []


def test_a_wider_margin_lets_both_play():
    model = playing(vaegan(margin=0.40))
    model.d_losses = torch.tensor([0.30, 1.06])
    assert list(model.frozen_groups()) == []
    model.d_losses = torch.tensor([0.27, 0.69])
    assert list(model.frozen_groups()) == ["discriminator"]


def test_ranks_decide_on_their_common_cost():
    for own, others, expected in (
        ((0.20, 0.69), (0.50, 0.69), []),
        ((0.50, 0.69), (0.10, 0.69), ["discriminator"]),
        ((0.69, 0.90), (0.69, 1.30), ["decoder"]),
    ):
        first, second = playing(vaegan(margin=0.35), others=others), playing(vaegan(margin=0.35), others=own)
        first.d_losses, second.d_losses = torch.tensor(own), torch.tensor(others)
        assert list(first.frozen_groups()) == list(second.frozen_groups()) == expected


def test_the_cost_is_that_of_the_step_at_hand():
    """Over the pieces of an accumulated batch it is their mean; the next step begins anew."""
    model = playing(vaegan(margin=0.35), pieces=2)
    seen = []
    for index in range(4):
        set_rng(model, 4)
        found = model.training_step(batch_for(model, 4, seed=index), index)
        seen.append(torch.stack([found["d_loss_real"], found["d_loss_fake"]]).detach())
        if index % 2:
            torch.testing.assert_close(model.d_losses, (seen[-2] + seen[-1]) / 2)
            assert not model.d_losses.requires_grad
    assert not torch.equal(seen[0], seen[2])


# Bad input --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 3, -3])
def test_a_feature_layer_out_of_range_is_refused(layer):
    with pytest.raises(ZooError, match=f"feature_layer is {layer}, .* 2 convolutions; .* from 1 to 2"):
        vaegan(feature_layer=layer)


@pytest.mark.parametrize("option", [{"objective": "wgan"}, {"reconstruction": "pixel"}, {"fakes": "reconstructions"}])
def test_unknown_choices_are_refused(option):
    ((name, value),) = option.items()
    with pytest.raises(ZooError, match=f"model.{name}={value} is not known; use {CHOICES[name][0]} or"):
        vaegan(**option)


@pytest.mark.parametrize("options", [{"reconstruction": "pixels", "gamma": 1e-3}, {"reconstruction": "both", "pixel_scale": 0.5}])
def test_it_learns_sixteen_images_by_heart(options):
    """Not in features alone: those of a discriminator that has not learnt much yet tell too little of the pixels."""
    assert overfit(vaegan(latent_dim=16, **options), steps=300) < 0.1
