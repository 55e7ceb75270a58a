"""UDT against the formulas of 2001.05017 and of its authors' code (methods 2.1), written out with ordinary forward passes."""

import pytest
import torch

from tests.models.games import (
    NAMES,
    apart,
    assert_objectives_hold_under_bf16,
    batch_for,
    conv,
    deviation,
    losses,
    of_groups,
    overfit,
    set_rng,
    silent,
    udt,
)
from zoo.errors import ZooError
from zoo.nets.udt import UDTBackbone

BACKBONES = {"conv": (lambda: conv(), 8, 2), "published": (lambda: UDTBackbone(64, 1, width=4), 32, 8)}
BALANCED, UNEQUAL = [0, 1, 0, 1], [1, 0, 1, 1, 0, 1]


def written(model, batch, weight=0.001, beta=0.0):
    set_rng(model, len(batch.image))
    noise = model.normal(len(batch.image), model.attribute_dim)
    domain = batch.attributes[:, 1].bool()
    poor, rich = batch.image[~domain], batch.image[domain]

    def d(code):  # probability of being rich
        return torch.sigmoid(model.discriminator(code))

    reconstruction = confusion = judged = rate = torch.zeros((), dtype=batch.image.dtype)
    if len(rich):
        c, a = model.content(rich), model.attribute(rich)
        rate = (a**2).sum(1).mean() / 2
        if beta:
            a = a + noise[domain]
        reconstruction = reconstruction + ((rich - model.decoder(torch.cat([c, a], 1))) ** 2).mean()
        confusion = confusion - torch.log(1 - d(c)).mean()
        judged = judged - torch.log(d(c)).mean()
    if len(poor):
        c = model.content(poor)
        a = torch.zeros(len(poor), model.attribute_dim, dtype=c.dtype)
        reconstruction = reconstruction + ((poor - model.decoder(torch.cat([c, a], 1))) ** 2).mean()
        confusion = confusion - torch.log(1 - d(c)).mean()
        judged = judged - torch.log(1 - d(c)).mean()
    return {"autoencoder": reconstruction + weight * confusion + beta * rate, "discriminator": judged}


def small(backbone: str, **options):
    make, latent_dim, attribute_dim = BACKBONES[backbone]
    return udt(make(), latent_dim, attribute_dim, **options)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("rich", [BALANCED, UNEQUAL], ids=["balanced", "unequal"])
@pytest.mark.parametrize("options", [{}, {"adv_weight": 2.0}, {"adv_weight": 0.5, "kl_weight": 0.3}], ids=["published", "other", "noise"])
def test_the_one_loss_gives_each_group_the_gradient_of_its_own_objective(backbone, rich, options):
    model = small(backbone, **options).double()
    batch = batch_for(model, len(rich), rich=rich)
    found = losses(model, batch)
    objectives = written(model, batch, *options.values())
    assert deviation(model, found["loss"], objectives) < 1e-12
    torch.testing.assert_close(found["loss"], sum(objectives.values()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("rich", [[0, 0, 0], [1, 1, 1]], ids=["poor", "rich"])
def test_a_batch_of_one_domain_counts_that_domain_alone(rich):
    model = small("conv").double()
    batch = batch_for(model, 3, rich=rich)
    found = losses(model, batch)
    objectives = written(model, batch)
    torch.testing.assert_close(found["loss"], sum(objectives.values()), rtol=1e-12, atol=0)
    ours, theirs = of_groups(model, found["loss"]), apart(model, objectives)
    for name in ours:
        for own, other in zip(ours[name], theirs[name], strict=True):
            assert (own - other).abs().max() <= 1e-12 * other.abs().max()  # also where it is 0: no rich image, no attribute
    assert any(gradient.any() for gradient in ours["discriminator"])


def test_no_term_moves_whom_it_does_not_concern():
    model = small("conv").double()
    found = losses(model, batch_for(model))
    assert silent(model, found["reconstruction"] + model.adv_weight * found["confusion"], "discriminator")
    assert silent(model, found["d_loss"], "autoencoder")
    assert not silent(model, found["confusion"], "autoencoder")
    assert not silent(model, found["d_loss"], "discriminator")
    for net in (model.attribute, model.decoder):  # the game is about the content alone
        reached = torch.autograd.grad(found["confusion"], [*net.parameters()], retain_graph=True, allow_unused=True)
        assert all(gradient is None or not gradient.any() for gradient in reached)


def test_the_same_under_bf16_autocast():
    weight = 2.0  # the published one could not be seen
    assert_objectives_hold_under_bf16(small("published", adv_weight=weight), lambda model, batch: written(model, batch, weight))
    noisy = small("published", adv_weight=weight, kl_weight=0.01)
    assert_objectives_hold_under_bf16(noisy, lambda model, batch: written(model, batch, weight, 0.01))


def test_a_sure_discriminator_makes_no_infinite_loss():
    model = small("conv")
    model.discriminator[-2].bias.data.fill_(1000.0)
    found = losses(model, batch_for(model))
    assert all(value.isfinite() for value in found.values())
    torch.testing.assert_close(found["confusion"], torch.tensor(2000.0), rtol=0.01, atol=0)  # -log(1 - d), twice


@pytest.fixture
def pair():
    """A model and two rich images of it."""
    model = small("conv").double().eval()
    images = batch_for(model, 4, rich=[1, 1, 1, 1]).image
    return model, images[:2], images[2:]


def test_a_swap_with_itself_reconstructs(pair):
    model, rich, _ = pair
    attributes = torch.ones(2, len(NAMES), dtype=torch.uint8)
    torch.testing.assert_close(model.swap(rich, rich), model.reconstruct(rich, attributes), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.swap(rich, rich), model.reconstruct(rich), rtol=1e-12, atol=1e-12)


def silence(net):
    """The net now gives the same for all images."""
    for parameter in net.parameters():
        parameter.data.zero_()


def test_remove_does_not_know_the_attribute_encoder(pair):
    model, rich, _ = pair
    before = model.remove(rich)
    poor = torch.zeros(2, len(NAMES), dtype=torch.uint8)
    assert torch.equal(before, model.reconstruct(rich, poor))
    for parameter in model.attribute.parameters():
        parameter.data.normal_()
    assert torch.equal(model.remove(rich), before)
    assert not torch.equal(model.swap(rich, rich), before)


def test_add_takes_the_content_of_the_first_and_the_attribute_of_the_second(pair):
    model, poor, guide = pair
    other = batch_for(model, 2, seed=9).image
    added = model.add(poor, guide)
    assert not torch.equal(model.add(other, guide), added)
    assert not torch.equal(model.add(poor, other), added)
    attribute, content = model.attribute, model.content
    model.attribute = udt(conv()).double().attribute
    silence(model.attribute)
    assert torch.equal(model.add(poor, guide), model.add(poor, other))  # the guide acts through its attribute code alone
    model.attribute, model.content = attribute, udt(conv()).double().content
    silence(model.content)
    assert torch.equal(model.add(poor, guide), model.add(other, guide))  # the poor image through its content code alone
    model.content = content
    assert torch.equal(model.add(poor, guide), added)


def test_the_attribute_half_of_a_poor_images_code_is_0():
    model = small("conv").double()
    batch = batch_for(model, 4, rich=[0, 1, 1, 0])
    codes, blind = model.encode(batch.image, batch.attributes), model.encode(batch.image)
    assert torch.equal(codes[:, :6], blind[:, :6])
    assert torch.equal(codes[[1, 2]], blind[[1, 2]])
    assert not codes[[0, 3], 6:].any()
    assert (blind[:, 6:] != 0).all()


def test_the_domain_is_found_by_name_and_kept_in_the_checkpoint():
    model = small("conv").double()
    batch = batch_for(model)
    flipped = batch._replace(attributes=batch.attributes[:, [1, 0, 2]])
    model.set_attribute_names((NAMES[1], NAMES[0], NAMES[2]))
    moved = losses(model, flipped)["loss"]
    model.set_attribute_names(NAMES)
    assert torch.equal(losses(model, batch)["loss"], moved)
    loaded = udt(conv()).double()
    loaded.column.zero_()
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(losses(loaded, batch)["loss"], losses(model, batch)["loss"])
    with pytest.raises(ZooError, match="Eyeglasses is not an attribute"):
        model.set_attribute_names(("Bald", "Smiling"))


@pytest.mark.parametrize("attribute_dim", [0, 8, 9, -1])
def test_an_attribute_code_that_leaves_no_content_is_refused(attribute_dim):
    with pytest.raises(ZooError, match=f"attribute_dim is {attribute_dim}.*latent_dim=8"):
        udt(conv(), 8, attribute_dim)


@pytest.mark.parametrize("weight", ["adv_weight", "kl_weight"])
def test_a_weight_below_0_is_refused(weight):
    with pytest.raises(ZooError, match=f"model.{weight}=-1 must not be below 0"):
        udt(conv(), **{weight: -1})


def test_it_learns_sixteen_images_by_heart():
    model = udt(latent_dim=16, attribute_dim=4)
    assert overfit(model, steps=300) < 0.1
    batch = batch_for(model, 16)
    rich = batch.image[batch.attributes[:, 1] == 1]
    with torch.no_grad():
        assert (model.swap(rich, rich) - rich).square().mean() < 0.1 * rich.var(0).mean()
