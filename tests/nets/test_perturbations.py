import numpy as np
import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.nets.perturbations import COLOUR, PERTURBATIONS, Perturbations, fitting

SHAPE = (3, 4, 4)
FLIPS = {"hflip": 1.0, "vflip": 1.0, "hvflip": 2.0}


def images(count: int = 5, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def uniforms(count: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NUMPY = {  # what each one means, of one image (C, H, W)
    "hflip": lambda image: image[:, :, ::-1],
    "vflip": lambda image: image[:, ::-1],
    "hvflip": lambda image: np.rot90(image, 2, (1, 2)),
    "rot90": lambda image: np.stack([np.rot90(channel) for channel in image]),
    "invert": lambda image: 0 - image,
    "reverse": lambda image: image[[2, 1, 0]],
    "reverse_vflip": lambda image: image[::-1, ::-1],
}


@pytest.mark.parametrize("name", NUMPY)
def test_each_is_what_its_name_says_of_every_image_alone(name):
    image = images()
    changed = PERTURBATIONS[name](image, uniforms(5, 6)).numpy()
    assert not np.array_equal(changed, image.numpy())
    for one, other in zip(image.numpy(), changed, strict=True):
        np.testing.assert_array_equal(other, NUMPY[name](one))


@pytest.mark.parametrize("name", NUMPY)
def test_all_but_the_rotation_undo_themselves_and_the_rotation_in_four_steps(name):
    image = images()
    twice = PERTURBATIONS[name](PERTURBATIONS[name](image, None), None)
    assert torch.equal(twice, image) == (name != "rot90")
    if name == "rot90":
        assert torch.equal(PERTURBATIONS[name](PERTURBATIONS[name](twice, None), None), image)


def test_colour_noise_is_one_scale_and_shift_for_each_channel_of_each_image_within_its_size():
    image, draws = 0.5 * images(400), uniforms(400, 6)  # nothing is clamped
    changed = PERTURBATIONS["colour"](image, draws)
    found = []
    for one, other in zip(image.flatten(0, 1).flatten(1).numpy(), changed.flatten(0, 1).flatten(1).numpy(), strict=True):
        scale, shift = np.polyfit(one, other, 1)
        np.testing.assert_allclose(other, scale * one + shift, atol=1e-12)
        found.append((scale - 1, shift))
    found = np.array(found)  # (1200, 2)
    assert np.abs(found).max() <= COLOUR
    np.testing.assert_allclose(found.mean(0), 0, atol=4 * COLOUR / np.sqrt(3 * 1200))
    np.testing.assert_allclose(found.std(0), COLOUR / np.sqrt(3), rtol=0.1)  # uniform
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.12
    assert abs(np.corrcoef(found.reshape(400, 3, 2)[:, 0, 0], found.reshape(400, 3, 2)[:, 1, 0])[0, 1]) < 0.2
    bright = PERTURBATIONS["colour"](torch.ones(50, *SHAPE), uniforms(50, 6).float())
    assert bright.max() == 1
    assert bright.min() > 1 - 2 * COLOUR - 1e-6


def test_they_are_drawn_in_proportion_to_their_weights():
    perturb = Perturbations({**FLIPS, "invert": 0}, SHAPE)
    image = images(1).expand(4000, -1, -1, -1)
    changed = perturb(image, uniforms(4000, perturb.draws))
    shares = {name: (changed == PERTURBATIONS[name](image, None)).flatten(1).all(1).double().mean().item() for name in (*FLIPS, "invert")}
    assert sum(shares.values()) == pytest.approx(1)  # nobody stays as it is
    assert shares == pytest.approx({"hflip": 0.25, "vflip": 0.25, "hvflip": 0.5, "invert": 0}, abs=4 * (0.25 / 4000) ** 0.5)


def test_the_ends_of_the_unit_interval_choose_the_first_and_the_last():
    perturb = Perturbations(FLIPS, SHAPE)
    image, draws = images(2), torch.zeros(2, perturb.draws, dtype=torch.float64)
    draws[1] = 1 - 2**-53
    changed = perturb(image, draws)
    assert torch.equal(changed[0], image[0].flip(2))
    assert torch.equal(changed[1], image[1].flip(1, 2))


class Drawing(Autoencoder):
    def __init__(self):
        super().__init__(SHAPE, 1)
        self.anchor = nn.Parameter(torch.zeros(()))
        self.perturb = Perturbations({name: 1 for name in fitting(SHAPE)}, SHAPE)

    def changed(self, image):
        return self.perturb(image, self.uniform(len(image), self.perturb.draws))


def test_two_ranks_perturb_as_one_does():
    model, image = Drawing(), images(8).float()
    model.set_batch_rng((3, 64), 0, 8, 8)
    whole = model.changed(image)
    for rank in range(2):
        model.set_batch_rng((3, 64), 4 * rank, 4, 8)
        assert torch.equal(model.changed(image[4 * rank : 4 * rank + 4]), whole[4 * rank : 4 * rank + 4])
    assert len({tuple(part.flatten().tolist()) for part in model.changed(images(1).float().expand(4, -1, -1, -1))}) > 1  # not one for all


def test_what_the_images_do_not_allow_is_left_out():
    assert fitting((3, 4, 4)) == tuple(PERTURBATIONS)
    assert set(PERTURBATIONS) - set(fitting((1, 4, 4))) == {"reverse", "reverse_vflip"}
    assert set(PERTURBATIONS) - set(fitting((3, 4, 6))) == {"rot90"}
    for name in fitting((1, 4, 6)):
        assert PERTURBATIONS[name](images(2, (1, 4, 6)), uniforms(2, 2)).shape == (2, 1, 4, 6)


@pytest.mark.parametrize(("weights", "shape", "sentence"), [
    ({"hflp": 1}, SHAPE, r"hflp is not known; did you mean 'hflip'\?"),
    ({"zzz": 1}, SHAPE, r"zzz is not known; valid: colour, .*vflip\."),
    ({"hflip": -1, "vflip": 2}, SHAPE, "hflip=-1 must be a number of at least 0"),
    ({"hflip": float("nan")}, SHAPE, "hflip=nan must be a number"),
    ({"hflip": float("inf")}, SHAPE, "hflip=inf must be a number"),
    ({"hflip": True}, SHAPE, "hflip=True must be a number"),
    ({"hflip": 0, "vflip": 0.0}, SHAPE, "no weight above 0"),
    ({}, SHAPE, "no weight above 0"),
    ({"hflip": 1, "reverse": 1}, (1, 4, 4), "reverse=1 is not possible: .*only one; set it to 0"),
    ({"hflip": 1, "reverse_vflip": 1}, (1, 4, 4), "reverse_vflip=1 is not possible"),
    ({"hflip": 1, "rot90": 0.5}, (3, 4, 6), "rot90=0.5 is not possible: it needs square images, not 4×6 pixels"),
])  # fmt: skip
def test_refused(weights, shape, sentence):
    with pytest.raises(ZooError, match=sentence) as refusal:
        Perturbations(weights, shape)
    assert "\n" not in str(refusal.value)


def test_a_weight_of_zero_asks_for_nothing_that_the_images_do_not_allow():
    assert Perturbations({"hflip": 1, "reverse": 0, "rot90": 0}, (1, 4, 6)).names == ["hflip"]
