"""Cross-reconstruction (methods 6), written out; what is frozen stays as it is to the last bit."""

import pytest
import torch

from tests.models.games import (
    BatchNormBackbone,
    acai,
    assert_same_under_bf16_and_compiled,
    batch_for,
    conv,
    gan,
    set_rng,
    train,
    udt,
    vae,
    vaegan,
)
from zoo.errors import ZooError
from zoo.models.ae import AE
from zoo.models.base import Autoencoder
from zoo.models.cross_ae import CrossAE

FLIPS = {"hflip": 1, "vflip": 1, "hvflip": 1}


def ae(backbone=None, latent_dim: int = 4, seed: int = 1) -> AE:
    torch.manual_seed(seed)
    return AE(backbone=backbone or conv(), latent_dim=latent_dim)


def cross(autoencoder: Autoencoder | None = None, perturbations: dict[str, float] = FLIPS, **options) -> CrossAE:
    return CrossAE(autoencoder or ae(), perturbations, **options)


def written(model: CrossAE, batch) -> dict[str, torch.Tensor]:
    """The terms of the loss, one image after the other."""
    inner, count = model.autoencoder, len(batch.image)
    set_rng(model, count)
    which = model.uniform(count, model.perturb.draws)[:, 0]
    terms = []
    for image, u in zip(batch.image, which, strict=True):
        changed = image.flip([(2,), (1,), (1, 2)][int(3 * u)])
        of_image, of_changed = (inner.decoder(inner.encoder(x[None]))[0] for x in (image, changed))
        pairs = ((changed, of_image), (image, of_changed), (image, of_image), (changed, of_changed))
        terms.append(torch.stack([((target - output) ** 2).mean() for target, output in pairs]))
    crossed, back, ordinary, own = torch.stack(terms).mean(0)
    return {"cross": crossed + back, "plain": ordinary + own, "ordinary": ordinary}


@pytest.mark.parametrize("ordinary", [0.0, 0.3])
@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("trains", ["encoder", "both"])
def test_loss_and_gradient_equal_the_written_objective(trains, control, ordinary):
    model = cross(train=trains, control=control, ordinary=ordinary).double()
    batch = batch_for(model, 6)
    expected = written(model, batch)
    set_rng(model, 6)
    found = model.losses(batch)
    for name in ("cross", "plain"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=0)
    total = expected["plain" if control else "cross"] + ordinary * expected["ordinary"]
    torch.testing.assert_close(found["loss"], total, rtol=1e-12, atol=0)
    parameters = model.param_groups()["autoencoder"]
    for one, other in zip(torch.autograd.grad(found["loss"], parameters), torch.autograd.grad(total, parameters), strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


def test_the_control_sees_the_same_images_and_differs_by_its_targets_alone():
    method, control = cross(), cross(control=True)
    batch = batch_for(method, 6)
    found = []
    for model in (method, control):
        set_rng(model, 6)
        found.append(model.losses(batch))
    assert all(torch.equal(found[0][name], found[1][name]) for name in ("cross", "plain", "distance"))
    assert torch.equal(found[0]["loss"], found[0]["cross"])
    assert torch.equal(found[1]["loss"], found[1]["plain"])
    assert not torch.equal(found[0]["loss"], found[1]["loss"])


MODELS = {
    "ae": (ae, ("encoder",), ("decoder",)),
    "vae": (vae, ("encoder",), ("decoder",)),
    "acai": (acai, ("encoder",), ("decoder",)),
    "vaegan": (lambda: vaegan(conv(norm="group")), ("encoder",), ("decoder",)),
    "udt": (udt, ("content", "attribute"), ("decoder",)),
}


@pytest.mark.parametrize("name", MODELS)
def test_groups_hold_what_is_trained_and_nothing_else(name):
    """Neither a critic or a discriminator nor a decoder's scale: what the loss does not reach, DDP must not wait for."""
    make, encoder, decoder = MODELS[name]
    for trains, parts in (("encoder", encoder), ("both", encoder + decoder)):
        model = cross(make(), train=trains)
        wanted = {f"autoencoder.{n}" for n, _ in model.autoencoder.named_parameters() if n.split(".")[0] in parts}
        assert {n for n, p in model.named_parameters() if p.requires_grad} == wanted
        assert {id(p) for p in model.param_groups()["autoencoder"]} == {id(p) for p in model.parameters() if p.requires_grad}
        batch = batch_for(model)
        set_rng(model, 4)
        model.losses(batch)["loss"].backward()
        assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("backbone", [conv, BatchNormBackbone])
def test_training_the_encoder_leaves_the_decoder_exactly_as_it_was(backbone):
    model = cross(ae(backbone()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, 3)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("autoencoder.encoder.") for name in moved)  # not the statistics of the decoder's BatchNorm, either
    model.eval().train()
    batchnorm = [module.training for module in model.autoencoder.decoder if isinstance(module, torch.nn.BatchNorm1d)]
    assert batchnorm == [False] * len(batchnorm)
    assert model.training
    assert model.autoencoder.encoder[0].training


def test_training_both_moves_both():
    model = cross(train="both")
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, 2)
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())


def fine_tuned(perturbations, **options) -> tuple[CrossAE, dict[str, float]]:
    """After 150 steps on 16 images, and what the last one says."""
    model = cross(ae(latent_dim=8), perturbations, train="both", **options)
    batch = batch_for(model, 16)
    optimizer = torch.optim.Adam(model.param_groups()["autoencoder"], lr=3e-3)
    for step in range(150):
        model.set_batch_rng((0, 16 * step), 0, 16, 16)
        optimizer.zero_grad()
        losses = model.losses(batch)
        losses["loss"].backward()
        optimizer.step()
    return model, {name: value.item() for name, value in losses.items()}


def test_with_some_of_the_ordinary_loss_codes_come_nearer_than_those_of_the_control():
    method, control = (fine_tuned(FLIPS, ordinary=1.0, control=control)[1] for control in (False, True))
    assert method["distance"] < 0.8 * control["distance"]
    assert method["cross"] < 0.5 * control["cross"]
    assert control["plain"] < 0.5 * method["plain"]


def test_a_single_flip_can_be_learnt_without_any_invariance():
    model, last = fine_tuned({"hflip": 1})
    image = batch_for(model, 16).image
    with torch.no_grad():
        assert (model.reconstruct(image) - image.flip(3)).square().mean() < 0.1 * (image - image.flip(3)).square().mean()
    assert last["distance"] > 0.7


def test_the_distance_is_that_of_codes_over_that_of_neighbours_and_finite_for_one_image():
    model = cross(ae(), {"vflip": 1}).double()
    batch = batch_for(model, 5)
    set_rng(model, 5)
    found = model.losses(batch)["distance"]
    codes, moved = model.encode(batch.image).detach(), model.encode(batch.image.flip(2)).detach()
    apart = torch.stack([(codes[i] - codes[i - 1]).norm() for i in range(5)]).mean()
    torch.testing.assert_close(found, torch.stack([(codes[i] - moved[i]).norm() for i in range(5)]).mean() / apart)
    assert not found.requires_grad
    set_rng(model, 1)
    assert all(value.isfinite() for value in model.losses(batch_for(model, 1)).values())


def test_it_is_the_trained_autoencoder_at_first():
    trained, model = ae(seed=5).eval(), cross().eval()
    image = batch_for(model).image
    with torch.no_grad():
        assert not torch.equal(model.encode(image), trained.encode(image))
        model.start_from(trained)
        assert torch.equal(model.encode(image), trained.encode(image))
        assert torch.equal(model.reconstruct(image), trained.reconstruct(image))
    assert model.autoencoder.encoder[0].weight is not trained.encoder[0].weight  # a copy
    assert not any(p.requires_grad for p in model.autoencoder.decoder.parameters())
    assert model.prior.name == "gaussian"


def test_a_udt_inside_is_told_the_attributes():
    model = cross(udt())
    model.set_attribute_names(("Bald", "Smiling", "Eyeglasses"))
    assert (model.reads_attributes, model.batch_multiple) == (True, 2)
    batch = batch_for(model, 4, rich=[0, 1, 0, 1])
    poor = batch.attributes[:, 2] == 0  # the column that is now called so
    codes = model.encode(batch.image, batch.attributes)
    assert torch.equal((codes[:, -2:] == 0).all(1), poor)
    with pytest.raises(ZooError, match="Eyeglasses is not an attribute"):
        model.set_attribute_names(("Bald",))
    assert (cross().reads_attributes, cross().batch_multiple) == (False, 1)


def test_the_same_under_bf16_autocast_and_compiled():
    everything = {**FLIPS, "rot90": 1, "invert": 1, "colour": 1, "reverse": 1, "reverse_vflip": 1}
    assert_same_under_bf16_and_compiled(cross(ae(conv(channels=3)), everything))


def test_two_ranks_compute_the_loss_of_one():
    model = cross(train="both").double()
    batch = batch_for(model, 8)
    set_rng(model, 8)
    whole = model.losses(batch)["loss"]
    halves = []
    for rank in range(2):
        model.set_batch_rng((3, 64), 4 * rank, 4, 8)
        halves.append(model.losses(type(batch)(*(part[4 * rank : 4 * rank + 4] for part in batch)))["loss"])
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-12, atol=0)


class Shared(Autoencoder):
    """Encodes and decodes with the same weight, as a flow does."""

    def __init__(self):
        super().__init__((1, 2, 2), 4)
        self.weight = torch.nn.Parameter(torch.eye(4))

    def encode(self, image, attributes=None):
        return image.flatten(1) @ self.weight

    def decode(self, latent):
        return (latent @ self.weight.inverse()).view(-1, 1, 2, 2)


def test_weights_that_both_sides_share_are_only_trained_together():
    assert len(cross(Shared(), train="both").param_groups()["autoencoder"]) == 1
    with pytest.raises(ZooError, match=r"encoder of a Shared has no weights of its own; set model\.train=both"):
        cross(Shared())


STARTS = {
    "nothing": (lambda: None, r"pretrain=none; .*pretrain\.run=RUN"),
    "class": (vae, "of the kind VAE, model.autoencoder AE"),
    "image size": (lambda: ae(conv(32)), "encodes 1×32×32 .*, model.autoencoder 1×16×16"),
    "latent size": (lambda: ae(latent_dim=5), "into 5 dimensions, model.autoencoder .* into 4 dimensions"),
    "width": (lambda: ae(conv(width=32, max_width=32)), "other networks"),
    "output": (lambda: ae(conv(output="linear")), "other networks"),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_start_that_does_not_fit_is_refused_in_one_sentence(case):
    make, sentence = STARTS[case]
    model = cross()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError, match=sentence) as refusal:
        model.start_from(make())
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: cross(train="decoder"), "model.train is 'decoder'; it must be 'encoder' or 'both'"),
    (lambda: cross(ordinary=-1), "model.ordinary=-1"),
    (lambda: cross(gan()), "GAN, which cannot encode"),
    (lambda: cross(latent_dim=7), "model.latent_dim=7 is not that of model.autoencoder, 4"),
    (lambda: cross(perturbations={"reverse": 1}), "model.perturbations.reverse=1 is not possible"),
])  # fmt: skip
def test_refused(make, sentence):
    with pytest.raises(ZooError, match=sentence):
        make()
