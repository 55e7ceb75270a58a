"""ACAI against the formulas of 1807.07543 and of its authors' code (methods 1.1), written out with ordinary forward passes."""

import pytest
import torch
from scipy.stats import kstest

from tests.models.games import acai, assert_objectives_hold_under_bf16, batch_for, conv, deviation, losses, overfit, set_rng, silent
from zoo.batch import Batch
from zoo.nets.acai import ACAIBackbone

BACKBONES = {
    "conv": lambda: conv(),
    "group": lambda: conv(norm="group"),
    "published": lambda: ACAIBackbone(16, 1, width=4, latent_width=4),
}


WEIGHTS = {"conv": 0.1, "group": 0.1, "published": 0.5}


def written(model, batch, weight=0.1, reg=0.2):
    x, count = batch.image, len(batch.image)
    set_rng(model, count)
    alpha = 0.5 - (model.uniform(count, 1) - 0.5).abs()
    z = model.encoder(x)
    partner = z[[row + 1 if row % 2 == 0 else row - 1 for row in range(count)]]
    reconstruction, mixed = model.decoder(z), model.decoder(alpha * z + (1 - alpha) * partner)

    def d(image):
        return model.critic(image).mean(1)

    autoencoder = ((x - reconstruction) ** 2).mean() + weight * (d(mixed) ** 2).mean()
    critic = ((d(mixed) - alpha[:, 0]) ** 2).mean() + (d(reg * x + (1 - reg) * reconstruction) ** 2).mean()
    return {"autoencoder": autoencoder, "critic": critic}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("weight", "reg"), [(None, 0.2), (3.0, 0.7)], ids=["defaults", "others"])
def test_the_one_loss_gives_each_group_the_gradient_of_its_own_objective(backbone, weight, reg):
    model = acai(BACKBONES[backbone](), latent_dim=32, adv_weight=weight, reg=reg).double()
    batch = batch_for(model, 6)
    found = losses(model, batch)
    objectives = written(model, batch, WEIGHTS[backbone] if weight is None else weight, reg)
    assert deviation(model, found["loss"], objectives) < 1e-12
    torch.testing.assert_close(found["loss"], sum(objectives.values()), rtol=1e-12, atol=0)


def test_no_term_moves_whom_it_does_not_concern():
    model = acai().double()
    found = losses(model, batch_for(model))
    assert silent(model, found["reconstruction"] + model.adv_weight * found["g_loss"], "critic")
    assert silent(model, found["d_loss"], "autoencoder")
    for term, group_name in (("reconstruction", "autoencoder"), ("g_loss", "autoencoder"), ("d_loss", "critic")):
        assert not silent(model, found[term], group_name)


def test_the_same_under_bf16_autocast():
    assert_objectives_hold_under_bf16(acai(), written)


def interpolations(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (count, 2), known, and the interpolated codes that a model decodes for them."""
    model = acai(conv(8), latent_dim=2).double()
    codes, decoded = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []
    model.encode = lambda image: codes
    model.decode = lambda latent: decoded.append(latent) or latent.new_zeros(len(latent), 1, 8, 8)
    losses(model, Batch(torch.zeros(count, 1, 8, 8, dtype=torch.float64), torch.zeros(count, 0), torch.arange(count)))
    latents = torch.cat(decoded)
    assert len(latents) == 2 * count
    mixed = latents[~(latents[:, None] == codes[None]).all(2).any(1)]
    assert len(mixed) == count
    return codes, mixed


def test_an_image_is_mixed_with_its_neighbour_which_has_the_larger_weight():
    codes, mixed = interpolations(512)
    partner = codes.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    shares = (mixed - partner) / (codes - partner)  # of the image itself, once from each dimension
    torch.testing.assert_close(shares[:, 0], shares[:, 1], rtol=1e-6, atol=1e-9)
    assert shares.min() >= 0
    assert shares.max() <= 0.5


def test_alpha_is_uniform_up_to_a_half():
    codes, mixed = interpolations(2048)
    partner = codes.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    alpha = ((mixed - partner) / (codes - partner)).mean(1)
    assert kstest(alpha.numpy(), "uniform", (0, 0.5)).pvalue > 0.01
    pairs = alpha.unflatten(0, (-1, 2))
    assert abs(torch.corrcoef(pairs.T)[0, 1]) < 0.1  # neighbours draw their own


def test_the_critic_is_asked_for_the_share_that_was_mixed_in():
    """A critic that always answers the same is charged exactly for its distance from α and, on the blend, from 0."""
    model = acai(conv(8), latent_dim=2).double()
    batch = batch_for(model, 64)
    for parameter in model.critic.parameters():
        parameter.data.zero_()
    model.critic[-1].bias.data.fill_(0.3)
    set_rng(model, 64)
    alpha = 0.5 - (model.uniform(64, 1) - 0.5).abs()
    found = losses(model, batch)
    torch.testing.assert_close(found["d_loss"], (0.3 - alpha).square().mean() + 0.3**2)
    torch.testing.assert_close(found["g_loss"], torch.tensor(0.09, dtype=torch.float64))


def test_it_learns_sixteen_images_by_heart():
    assert overfit(acai(latent_dim=16), steps=300) < 0.1
