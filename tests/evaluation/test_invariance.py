"""The distances of codes after perturbations, of encoders whose answer is known."""

import math

import pytest
import torch
from torch import nn

from tests.evaluation.numbers import evaluate
from zoo.data.arrays import Arrays
from zoo.data.store import prepare
from zoo.evaluation.context import EvalContext
from zoo.evaluation.descriptors import INVARIANCE_IMAGES
from zoo.models.base import Autoencoder
from zoo.models.training_config import seed_of
from zoo.nets.perturbations import PERTURBATIONS, relative_distance


class Known(Autoencoder):
    """Encodes an image of any size by a function."""

    def __init__(self, function, dim, shape=(3, 32, 32)):
        super().__init__(shape, dim)
        self.function, self.anchor = function, nn.Parameter(torch.zeros(()))

    def encode(self, image, attributes=None):
        return self.function(image)


def normals(image):
    """A code that shares nothing with those of other images: N(0, I) draws whose seed is the image."""
    return torch.stack([torch.randn(64, generator=torch.Generator().manual_seed(seed_of(*one.mul(1e4).long().flatten()[::29].tolist())))
                        for one in image])  # fmt: skip


ENCODERS = {
    "symmetric": (lambda image: image.square().mean((1, 2, 3))[:, None], 1),  # under all but changes of colour
    "pixels": (lambda image: image.flatten(1), 3072),
    "corner": (lambda image: image[:, :, 3, 5], 3),
    "normals": (normals, 64),
}


def measured(context, name, scale=1.0, shift=0.0, **settings):
    function, dim = ENCODERS[name]
    with torch.no_grad():
        return evaluate(context(Known(lambda image: scale * function(image) + shift, dim), **settings), ["invariance"])


def test_an_encoder_that_does_not_notice_gets_0_and_its_mean_runs_over_all(context):
    found = measured(context, "symmetric")
    assert set(found) == {"invariance/distance@200", *(f"invariance/{name}/distance@200" for name in PERTURBATIONS)}
    for name in PERTURBATIONS:
        assert (found[f"invariance/{name}/distance@200"] > 1e-4) == (name == "colour")
    own = [value for name, value in found.items() if name != "invariance/distance@200"]
    assert found["invariance/distance@200"] == pytest.approx(math.fsum(own) / 8)


def test_an_encoder_that_takes_changed_images_for_others_gets_1(context):
    for name, value in measured(context, "normals").items():
        assert value == pytest.approx(1, abs=0.03), name


def test_the_distances_are_those_of_the_definition(context, faces):
    found = measured(context, "corner", count=64)
    probe = context(Known(*ENCODERS["corner"]), count=64)
    image = probe.batch(probe.positions("test", 64)).image.double()
    codes = image[:, :, 3, 5]
    moved = {
        "hflip": image[:, :, 3, 26],
        "vflip": image[:, :, 28, 5],
        "rot90": image[:, :, 5, 28],
        "invert": -codes,
        "reverse": codes[:, [2, 1, 0]],
    }
    ratio = {name: (codes - other).norm(dim=1).mean() for name, other in moved.items()}
    shares = {name: (value / ratio["hflip"]).item() for name, value in ratio.items()}  # the denominator is the same for all
    for name, share in shares.items():
        assert found[f"invariance/{name}/distance@64"] / found["invariance/hflip/distance@64"] == pytest.approx(share, rel=1e-5)
    every = torch.pdist(codes).mean()  # whoever the partners are
    assert (ratio["hflip"] / found["invariance/hflip/distance@64"]).item() == pytest.approx(every.item(), rel=0.15)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (40.0, -3.0)])
def test_neither_scaling_nor_shifting_of_codes_helps(context, scale, shift):
    plain = measured(context, "pixels", count=64)
    assert measured(context, "pixels", scale, shift, count=64) == pytest.approx(plain, rel=1e-3)
    assert plain["invariance/distance@64"] > 0.3


def test_the_ratio_itself():
    generator = torch.Generator().manual_seed(0)
    codes, changed, others = torch.randn(3, 20, 4, generator=generator, dtype=torch.float64)
    expected = sum((a - b).norm() for a, b in zip(codes, changed, strict=True)) / sum(
        (a - b).norm() for a, b in zip(codes, others, strict=True)
    )
    torch.testing.assert_close(relative_distance(codes, changed, others), expected)
    torch.testing.assert_close(relative_distance(3 - 7 * codes, 3 - 7 * changed, 3 - 7 * others), expected)
    assert relative_distance(codes, codes, others) == 0
    assert relative_distance(codes, codes, codes).isnan()  # a collapsed encoder


def test_a_collapsed_encoder_is_noted_not_praised(context):
    with torch.no_grad():
        collapsed = context(Known(lambda image: torch.ones(len(image), 2), 2), count=64)
        assert evaluate(collapsed, ["invariance"]) == {}
    assert any("invariance/distance@64 is not defined" in note for note in collapsed.notes)


def test_attributes_are_given_to_a_model_that_reads_them(context, faces):
    seen = []

    class Reader(Known):
        reads_attributes = True

        def encode(self, image, attributes=None):
            seen.append(attributes)
            return self.function(image)

    with torch.no_grad():
        evaluate(context(Reader(*ENCODERS["corner"]), count=64), ["invariance"])
    assert len(seen) == 1 + len(PERTURBATIONS)
    assert all(torch.equal(attributes, seen[0]) for attributes in seen)
    assert seen[0].shape == (64, len(faces.attribute_names))


def test_grey_images_have_no_channels_to_reverse(tmp_path, digits):
    store = prepare(Arrays("mnist", digits), tmp_path)
    with torch.no_grad():
        found = evaluate(EvalContext(Known(lambda image: image.flatten(1), 784, (1, 28, 28)), store, "train"), ["distance"])
    names = set(PERTURBATIONS) - {"reverse", "reverse_vflip"}
    assert set(found) == {"invariance/distance@36", *(f"invariance/{name}/distance@36" for name in names)}


def test_its_count_is_that_of_its_images_even_at_full_n(context):
    probe = context(count=64)
    probe.count = 10_000
    (record,) = probe.records("invariance", {"distance": 0.5}, item="hflip")
    assert (record.n, record.item) == (INVARIANCE_IMAGES, "hflip")


def test_who_cannot_encode_is_left_out(context):
    model = Known(*ENCODERS["corner"])
    model.can_encode = False
    with torch.no_grad():
        assert evaluate(context(model, count=64), ["invariance"]) == {}


def test_a_second_time_gives_the_same_whatever_the_random_state(context):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(measured(context, "pixels", count=150))  # of two chunks; that 2 ranks give it, too, is tested of all groups at once
    assert found[0] == found[1]
