"""Attribute edits of models and data whose every answer is known: bright quadrants, and faces whose code is their factors."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.evaluation.numbers import by_metric
from tests.evaluation.ranks import on_both_of_two_ranks
from zoo.data.faces.dataset import ATTRIBUTE_NAMES, FACTOR_GROUPS, FACTOR_NAMES, Faces, attributes_of, render, sample_factors
from zoo.data.source import Chunk, Listing, Source
from zoo.data.store import prepare
from zoo.evaluation.attributes import GUIDES, Edits, attributes, drawn, edits_of, tied, true_images
from zoo.evaluation.context import EvalContext
from zoo.evaluation.descriptors import EDITS, METRICS
from zoo.features.classifier import Classifier
from zoo.metrics.edits import change
from zoo.models.base import Autoencoder

CLOSE = {"abs": 1e-4}


class Quadrants(Source):
    """Images of 8×8 whose first three quadrants are bright or dark: the attributes A, B, C; the fourth is always dark."""

    name, image_size, channels, attribute_names = "quadrants", 8, 1, ("A", "B", "C", "Constant")

    def __init__(self, train=80, test=80, coupled=False):
        bits = np.array(list(itertools.product((0, 1), repeat=3)))
        rows = bits[np.arange(train + test) % 8]
        if coupled:
            rows[:train, 1] = rows[:train, 0]  # in training images B always goes with A
        self.bits = np.concatenate([rows, np.zeros_like(rows[:, :1])], 1).astype(np.uint8)
        self.splits = np.repeat(np.array([0, 2], np.uint8), [train, test])

    def settings(self):
        return {}

    def fingerprint(self):
        return f"{self.bits.tolist()}"

    def scan(self):
        return Listing([str(i) for i in range(len(self.bits))], self.splits, self.bits)

    def read(self, start, stop):
        level = 64 + 127 * self.bits[start:stop].reshape(-1, 1, 2, 2)
        return Chunk(level.repeat(4, 2).repeat(4, 3).astype(np.uint8))


class Pixels(Autoencoder):
    """Its code is the image."""

    def __init__(self, shape=(1, 8, 8)):
        super().__init__(shape, int(np.prod(shape)))

    def encode(self, image, attributes=None):
        return image.flatten(1)

    def decode(self, latent):
        return latent.unflatten(1, self.image_shape)


class Blind(Pixels):
    """Shows a bright A whatever its code says."""

    def decode(self, latent):
        image = -torch.ones(len(latent), 1, 8, 8)
        image[:, :, :4, :4] = 1
        return image


class KnownClassifier(Classifier):
    """A classifier that computes what it says."""

    def __init__(self, names, predict, classes=False):
        nn.Module.__init__(self)
        self.attribute_names, self.predict, self.classes = names, predict, classes


def brightness(image):
    """Probability of a bright quadrant."""
    return torch.sigmoid((nn.functional.avg_pool2d(image.float(), 4) - 127.5) / 10).flatten(1)


def context_of(source, folder, model, **options):
    return EvalContext(model, prepare(source, folder), features=KnownClassifier(source.attribute_names, brightness), **options)


@torch.no_grad()
def test_a_vector_that_changes_its_quadrant_only(tmp_path):
    scores = by_metric(attributes(context_of(Quadrants(), tmp_path, Pixels())))
    expected = {"success": 1, "success_reconstruction": 0, "attribute_preservation": 1}
    everywhere = {f"{name}/{attribute}": value for name, value in expected.items() for attribute in "ABC"}  # not the constant one
    assert scores == expected | everywhere


@torch.no_grad()
def test_what_always_went_together_is_edited_together(tmp_path):
    scores = by_metric(attributes(context_of(Quadrants(coupled=True), tmp_path, Pixels())))
    assert scores["success"] == 1
    # An edit of A moves B in the same direction, and half of the B's are not there yet; C, the other of the others, stays.
    assert [scores[f"attribute_preservation/{name}"] for name in "ABC"] == [0.75, 0.75, 1]
    assert scores["attribute_preservation"] == pytest.approx(2.5 / 3)


@torch.no_grad()
def test_edits_are_compared_with_the_reconstruction_not_with_the_original(tmp_path):
    scores = by_metric(attributes(context_of(Quadrants(), tmp_path, Blind())))
    assert scores["success"] == scores["success_reconstruction"] == 0.5  # right by chance, in all removals or all additions
    assert scores["attribute_preservation"] == 1  # nothing changes, though hardly anything is as in the original


@torch.no_grad()
def test_attributes_with_too_few_images_are_left_out(tmp_path):
    source = Quadrants()
    source.bits[80:, 1] = np.arange(80) < 9  # 9 test images with B
    source.bits[:80, 2] = 1  # no training image without C
    scores = by_metric(attributes(context_of(source, tmp_path, Pixels())))
    assert {name for name in scores if name.startswith("success/")} == {"success/A"}
    assert not any(np.isnan(value) for value in scores.values())
    assert attributes(context_of(Quadrants(test=16), tmp_path, Pixels())) == []


@torch.no_grad()
def test_only_what_is_wanted_is_returned(tmp_path):
    context = context_of(Quadrants(), tmp_path, Pixels())
    context.wanted = {"attribute_preservation"}
    assert set(by_metric(attributes(context))) == {"attribute_preservation", *(f"attribute_preservation/{name}" for name in "ABC")}


def test_nothing_to_do(tmp_path):
    source, mute = Quadrants(), Pixels()
    mute.can_encode = False
    names = source.attribute_names
    assert attributes(context_of(source, tmp_path, mute)) == []
    for features in (
        None,
        nn.Identity(),
        KnownClassifier(names, brightness, classes=True),
        KnownClassifier(("other", *names[1:]), brightness),
    ):
        assert attributes(EvalContext(Pixels(), prepare(source, tmp_path), features=features)) == []


class Designed(Faces):
    """One person in many poses and lights, in every combination of smile and glasses; glasses of one kind."""

    @property
    def factors(self):
        count = sum(self.counts)
        faces = sample_factors(count, 3)
        person = {"smile": 0.0, "glasses": 0.0, "hat": 0.0, "hair_length": 0.1, "glasses_tint": 0.0, "glasses_thickness": 0.8}
        fixed = [i for i, name in enumerate(FACTOR_NAMES) if not name.startswith(("back", "cloth", "light", "shift", "tilt", "yaw"))]
        faces[:, fixed] = sample_factors(1, 0)[:, fixed]
        for name, value in person.items():
            faces[:, FACTOR_NAMES.index(name)] = value
        rows = np.arange(count)
        faces = faces[rows // 4 * 4]  # each pose four times
        faces[:, FACTOR_NAMES.index("smile")] = 0.8 * (rows % 2)
        faces[:, FACTOR_NAMES.index("glasses")] = rows // 2 % 2
        return faces


class Oracle(Autoencoder):
    """Its codes are the factors, its decoder is the drawing program. `blind` to some factors, and with a stain on what it draws."""

    def __init__(self, store, blind=(), stain=0.0):
        super().__init__((3, store.image_size, store.image_size), len(FACTOR_NAMES))
        self.store, self.stain = store, stain
        self.blind = [FACTOR_NAMES.index(name) for name in blind]
        self.known = torch.from_numpy(store.images[:]).flatten(1).float() / 127.5 - 1

    def encode(self, image, attributes=None):
        latent = torch.from_numpy(self.store.factors)[torch.cdist(image.flatten(1), self.known).argmin(1)]
        latent[:, self.blind] = 0
        return latent

    def decode(self, latent):
        image = torch.from_numpy(render(latent.numpy(), self.store.image_size)) / 127.5 - 1
        image[:, :, -4:, -4:] += self.stain
        return image


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    return prepare(Designed(image_size=32, train=48, val=4, test=48), tmp_path_factory.mktemp("designed"))


def looked_up(store):
    """A classifier of the designed faces: the attributes of the nearest of them."""
    images = torch.from_numpy(store.images[:]).flatten(1).float()
    answers = torch.from_numpy(store.attributes).float()
    return KnownClassifier(ATTRIBUTE_NAMES, lambda image: answers[torch.cdist(image.flatten(1).float(), images).argmin(1)])


@torch.no_grad()
def test_an_oracle_makes_exactly_the_true_change(designed):
    scores = by_metric(attributes(EvalContext(Oracle(designed), designed, features=looked_up(designed))))
    perfect = {"success": 1, "success_reconstruction": 0, "attribute_preservation": 1, "truth_cosine": 1, "truth_share": 1, "truth_mse": 0}
    for name, value in (perfect | {"reconstruction_mse": 0}).items():
        for where in ("", "/Smiling", "/Eyeglasses"):
            assert scores[name + where] == pytest.approx(value, **CLOSE), name + where
    assert len(scores) == 3 * len(METRICS["attributes"])  # nothing else varies


@torch.no_grad()
def test_a_poor_reconstruction_costs_error_but_no_cosine(designed):
    scores = by_metric(attributes(EvalContext(Oracle(designed, stain=-0.3), designed, features=looked_up(designed))))
    assert scores["truth_cosine"] > 0.99
    assert scores["truth_share"] == pytest.approx(1, abs=0.01)
    assert scores["truth_mse"] == pytest.approx(scores["reconstruction_mse"], rel=0.05)
    assert scores["reconstruction_mse"] > 1e-4


@torch.no_grad()
def test_a_model_that_does_not_know_an_attribute_makes_nothing_of_the_change(designed):
    scores = by_metric(attributes(EvalContext(Oracle(designed, blind=["glasses"]), designed, features=looked_up(designed))))
    assert scores["truth_cosine/Eyeglasses"] == scores["truth_share/Eyeglasses"] == 0
    assert scores["truth_mse/Eyeglasses"] > 1e-3
    assert scores["success/Eyeglasses"] == scores["success_reconstruction/Eyeglasses"] == 0.5
    assert scores["truth_cosine/Smiling"] == pytest.approx(1, abs=0.01)  # glasses cover a little of it


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return prepare(Faces(image_size=16, train=4, val=4, test=600), tmp_path_factory.mktemp("faces"))


def test_truths_are_the_same_face_with_what_is_wanted_and_nothing_else(faces):
    edits = edits_of(EvalContext(Pixels(), faces), list(range(len(ATTRIBUTE_NAMES))))
    assert edits.truths.shape == (len(edits.positions), GUIDES, len(FACTOR_NAMES))
    own, is_tied = faces.factors[edits.positions], tied(ATTRIBUTE_NAMES).numpy()
    for guide in range(GUIDES):
        truth = edits.truths[:, guide]
        now, before = attributes_of(truth), faces.attributes[edits.positions]
        rows = np.arange(len(now))
        assert (now[rows, edits.columns] == edits.wanted).all()
        assert (before[rows, edits.columns] != edits.wanted).all()
        assert not ((now != before) & ~is_tied[edits.columns]).any()  # the others that are judged must not change
        for column, name in enumerate(ATTRIBUTE_NAMES):
            changed = (truth != own)[edits.columns == column].any(0)
            assert {FACTOR_NAMES[i] for i in np.flatnonzero(changed)} <= set(FACTOR_GROUPS[name])


def test_the_truth_has_the_style_that_was_made(tmp_path):
    store = prepare(Faces(image_size=64, train=4, val=4, test=100), tmp_path)
    edits = edits_of(EvalContext(Pixels(), store), [ATTRIBUTE_NAMES.index("Eyeglasses")])
    edits = Edits(*(field[edits.wanted] for field in edits))
    originals = torch.from_numpy(store.images[edits.positions]) / 127.5 - 1
    for guide in (0, GUIDES - 1):
        truths = drawn(edits.truths[:, guide, None], 64)[:, 0]
        found = true_images(store, edits, change(originals, truths))
        assert (found == truths).flatten(1).all(1).float().mean() > 0.9  # compared as sketches: some other glasses look the same


def test_edits_are_balanced_and_each_image_is_edited_once_a_direction(faces):
    edits = edits_of(EvalContext(Pixels(), faces), list(range(len(ATTRIBUTE_NAMES))))
    assert set(edits.columns) == set(range(len(ATTRIBUTE_NAMES)))
    for column in range(len(ATTRIBUTE_NAMES)):
        added, removed = (edits.positions[(edits.columns == column) & (edits.wanted == wanted)] for wanted in (True, False))
        assert 10 <= len(added) == len(removed) <= EDITS
        assert len(np.unique(np.concatenate([added, removed]))) == 2 * len(added)
        assert (np.diff(added) > 0).all()


def test_attributes_that_share_a_factor_are_tied():
    is_tied = tied(ATTRIBUTE_NAMES)
    for i, one in enumerate(ATTRIBUTE_NAMES):
        for j, other in enumerate(ATTRIBUTE_NAMES):
            if set(FACTOR_GROUPS[one]) & set(FACTOR_GROUPS[other]):
                assert is_tied[i, j], (one, other)
    assert not is_tied[ATTRIBUTE_NAMES.index("Smiling"), ATTRIBUTE_NAMES.index("Mouth_Slightly_Open")]


@torch.no_grad()
def test_two_ranks_give_the_same_numbers_as_one(tmp_path):
    def measured():
        return attributes(context_of(Quadrants(train=600, coupled=True), tmp_path, Pixels()))

    alone = measured()
    assert on_both_of_two_ranks(tmp_path, measured) == [alone, alone]
