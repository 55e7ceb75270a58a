"""The GAN that starts as a VAE: the game of 1406.2661 with a reconstruction term (methods 8.2), by ordinary forward passes."""

import pytest
import torch

from tests.models.games import (
    BatchNormBackbone,
    assert_same_statistics,
    batch_for,
    conv,
    deviation,
    gan,
    losses,
    of_groups,
    set_rng,
    silent,
    vae,
)
from zoo.errors import ZooError
from zoo.models.ae import AE

BACKBONES = {"none": conv, "group": lambda: conv(norm="group"), "batch": BatchNormBackbone}


def written(model, batch, reconstruction_weight=0.0):
    x, count = batch.image, len(batch.image)
    set_rng(model, count)
    fake = model.generator(model.normal(count, model.latent_dim))
    real_logits, fake_logits = model.discriminator(torch.cat([x, fake]))[0].split(count)  # one batch, for BatchNorm
    generator = -torch.log(torch.sigmoid(fake_logits)).mean()
    discriminator = -torch.log(torch.sigmoid(real_logits)).mean() - torch.log(1 - torch.sigmoid(fake_logits)).mean()
    if reconstruction_weight:
        mean = model.encoder(x)[:, : model.latent_dim]
        generator = generator + reconstruction_weight * ((x - model.generator(mean)) ** 2).mean()
    return {"generator": generator, "discriminator": discriminator}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("seen", "weight"), [(None, 0.0), (0, 3.0), (250, 2.25), (1000, 0.0), (5000, 0.0)])
def test_the_one_loss_gives_each_group_the_gradient_of_its_own_objective(backbone, seen, weight):
    """The reconstruction's weight falls from 3 to 0 over 1,000 images; without a VAE there is none."""
    from_vae = seen is not None
    model = gan(BACKBONES[backbone](), **({"reconstruction_weight": 3.0, "reconstruction_decay_images": 1000} if from_vae else {}))
    if from_vae:
        model.start_from(vae(BACKBONES[backbone]()))
        model.images_seen.fill_(seen)
    model = model.double()
    batch = batch_for(model, 6)
    found = losses(model, batch)
    objectives = written(model, batch, weight)
    assert deviation(model, found["loss"], objectives) < 1e-12
    torch.testing.assert_close(found["loss"], sum(objectives.values()), rtol=1e-12, atol=0)


def test_no_term_moves_whom_it_does_not_concern():
    model = gan(reconstruction_weight=1.0, reconstruction_decay_images=100)
    model.start_from(vae())
    model = model.double()
    found = losses(model, batch_for(model))
    assert silent(model, found["g_loss"] + found["reconstruction"], "discriminator")
    assert silent(model, found["d_loss_real"] + found["d_loss_fake"], "generator")
    for group_name, terms in {"generator": ("g_loss", "reconstruction"), "discriminator": ("d_loss_real", "d_loss_fake")}.items():
        assert not any(silent(model, found[term], group_name) for term in terms)
    assert not any(p.requires_grad for p in model.encoder.parameters())


def test_the_same_under_bf16_autocast():
    model = gan(reconstruction_weight=1.0, reconstruction_decay_images=100)
    model.start_from(vae())
    batch = batch_for(model, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model, batch)
        objectives = written(model, batch, 1.0)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in found.values())
    assert deviation(model, found["loss"], objectives) < 0.1


def test_a_sure_discriminator_makes_no_infinite_loss():
    model = gan()
    model.discriminator.head[-1].bias.data.fill_(-1000.0)
    found = losses(model, batch_for(model))
    torch.testing.assert_close(found["g_loss"], torch.tensor(1000.0), rtol=0.01, atol=0)
    torch.testing.assert_close(found["d_loss_real"], torch.tensor(1000.0), rtol=0.01, atol=0)
    assert found["d_loss_fake"] == 0
    assert max(gradient.abs().max() for gradient in of_groups(model, found["loss"])["generator"]) > 0  # it does not saturate


def test_a_step_advances_batchnorms_statistics_once_by_real_and_fake_images_together():
    model, twin = gan(BatchNormBackbone()), gan(BatchNormBackbone())
    batch = batch_for(model, 6)
    losses(model, batch)
    set_rng(twin, 6)
    twin.discriminator(torch.cat([batch.image, twin.generator(twin.normal(6, 4))]))
    assert_same_statistics(model.discriminator, twin.discriminator)


def test_the_vaes_encoder_stays_what_the_vae_had():
    model, trained = gan(BatchNormBackbone(), reconstruction_weight=1.0, reconstruction_decay_images=100), vae(BatchNormBackbone())
    model.start_from(trained)
    model.train()
    losses(model, batch_for(model, 6))["loss"].backward()
    assert all(torch.equal(value, trained.encoder.state_dict()[name]) for name, value in model.encoder.state_dict().items())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_samples_at_step_0_are_those_of_the_vae(backbone):
    model, trained = gan(BACKBONES[backbone]()).eval(), vae(BACKBONES[backbone]())
    for value in trained.state_dict().values():  # statistics of BatchNorm, too
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value)
    trained.eval()

    def samples(of):
        return of.sample(5, torch.Generator().manual_seed(7))

    with torch.no_grad():
        assert not torch.equal(samples(model), samples(trained))
        model.start_from(trained)
        assert torch.equal(samples(model), samples(trained))
    assert model.generator[0].weight is not trained.decoder[0].weight  # a copy


REFUSED = {
    "kind": (lambda: AE(backbone=conv(), latent_dim=4), "VAE.*but pretrain is a AE.*model=vae"),
    "image size": (lambda: vae(conv(32)), "images of 1×32×32.*1×16×16.*data.image_size"),
    "channels": (lambda: vae(conv(channels=3)), "images of 3×16×16.*1×16×16"),
    "latent size": (lambda: vae(latent_dim=5), "from 5 dimensions.*from 4 dimensions.*model.latent_dim"),
    "output range": (lambda: vae(conv(output="linear")), "another decoder.*model.backbone"),
    "width": (lambda: vae(conv(width=32, max_width=32)), "another decoder.*model.backbone"),
    "normalisation": (lambda: vae(conv(norm="group")), "another decoder.*model.backbone"),
    "networks": (lambda: vae(BatchNormBackbone8To16()), "another decoder.*model.backbone"),
}


class BatchNormBackbone8To16(BatchNormBackbone):
    """Other networks that claim to make images of the same size."""

    image_shape = (1, 16, 16)


@pytest.mark.parametrize("case", REFUSED)
def test_a_stage_that_does_not_fit_is_refused_in_one_sentence(case):
    make, sentence = REFUSED[case]
    model, trained = gan(), make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError, match=sentence) as refusal:
        model.start_from(trained)
    text = str(refusal.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_reconstruction_term_needs_a_vae():
    with pytest.raises(ZooError, match=r"model\.reconstruction_weight needs the encoder of a VAE.*pretrain\.run"):
        gan(reconstruction_weight=1.0, reconstruction_decay_images=1).start_from(None)
    gan().start_from(None)  # from scratch


def test_a_vae_of_another_encoder_gives_its_decoder_but_no_reconstruction_term():
    trained = vae()
    trained.encoder = conv(width=32, max_width=32).encoder(8)
    with pytest.raises(ZooError, match=r"another encoder.*model\.reconstruction_weight=0\.$"):
        gan(reconstruction_weight=1.0, reconstruction_decay_images=1).start_from(trained)
    gan().start_from(trained)


def test_it_cannot_encode_and_says_so():
    assert not gan().can_encode
    with pytest.raises(NotImplementedError):
        gan().encode(batch_for(gan()).image)


def test_the_discriminator_tells_sixteen_images_from_fakes():
    model = gan(conv(norm="none"))
    batch = batch_for(model, 16)
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    for step in range(100):
        model.set_batch_rng((0, 16 * step), 0, 16, 16)
        optimizer.zero_grad()
        model.losses(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        fakes = model.sample(256, torch.Generator().manual_seed(5))
        assert (model.discriminator(batch.image)[0] > 0).all()
        assert (model.discriminator(fakes)[0] < 0).all()
    assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())
