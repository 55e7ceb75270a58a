"""The numbers of UDT, of models whose every answer is known: they find the factors of a face and draw it again."""

import math

import numpy as np
import pytest
import torch

from tests.evaluation.numbers import by_metric, evaluate
from tests.evaluation.ranks import on_both_of_two_ranks
from tests.evaluation.test_attributes import Designed, KnownClassifier, Quadrants, brightness, looked_up
from zoo.data.faces.dataset import ATTRIBUTE_NAMES, FACTOR_GROUPS, FACTOR_NAMES, attributes_of, render
from zoo.data.store import prepare
from zoo.evaluation import transfer as module
from zoo.evaluation.attributes import GUIDES, drawn
from zoo.evaluation.context import EvalContext
from zoo.evaluation.descriptors import METRICS
from zoo.evaluation.transfer import CONTENT, EDITED, WAYS, content_scores, pairs_between, pairs_of, transfer
from zoo.models.base import Autoencoder
from zoo.models.udt import UDT
from zoo.nets.conv import ConvBackbone

GLASSES = ATTRIBUTE_NAMES.index("Eyeglasses")
CLOSE = {"abs": 1e-3}  # the drawing program is exact to one grey level
PARTS = [FACTOR_NAMES.index(name) for name in FACTOR_GROUPS["Eyeglasses"]]


class Oracle(UDT):
    """Content: all factors but those of the glasses; attribute: these; the decoder is the drawing program.

    `stain` spoils a corner of what it draws, `ignores` makes it leave the glasses to the content, `smiles` gives a smile with glasses.
    """

    def __init__(self, store, stain=0.0, ignores=False, smiles=False):
        Autoencoder.__init__(self, (3, store.image_size, store.image_size), len(FACTOR_NAMES) + len(PARTS))
        self.content_dim, self.attribute_dim = len(FACTOR_NAMES), len(PARTS)
        self.register_buffer("column", torch.tensor(GLASSES))
        self.factors = torch.from_numpy(store.factors)
        self.known = torch.from_numpy(store.images[:]).flatten(1).float() / 127.5 - 1
        self.stain, self.ignores, self.smiles = stain, ignores, smiles

    def found(self, image):
        return self.factors[torch.cdist(image.flatten(1), self.known).argmin(1)]

    def content(self, image):
        content = self.found(image).clone()
        if not self.ignores:
            content[:, PARTS] = 0
        return content

    def attribute(self, image):
        return torch.zeros(len(image), len(PARTS)) if self.ignores else self.found(image)[:, PARTS]

    def decode(self, latent):
        factors = latent[:, : self.content_dim].clone()
        factors[:, PARTS] += latent[:, self.content_dim :]
        if self.smiles:
            factors[factors[:, PARTS[0]] > 0.5, FACTOR_NAMES.index("smile")] = 0.8
        image = torch.from_numpy(render(factors.numpy(), self.image_shape[1])) / 127.5 - 1
        image[:, :, -4:, -4:] += self.stain
        return image


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    """One person in 12 poses to train on and 12 to test, each with and without a smile, with and without glasses of one kind."""
    return prepare(Designed(image_size=32, train=48, val=4, test=48), tmp_path_factory.mktemp("designed"))


def found_by(model, store, names, **settings):
    """The scores of these names alone."""
    context = EvalContext(model, store, **settings)
    context.wanted = set(names)
    return by_metric(transfer(context))


@torch.no_grad()
def test_an_oracle_makes_the_true_edits_and_an_error_it_makes_anyhow_costs_nothing(faces):
    scores = found_by(Oracle(faces, stain=-0.3), faces, EDITED)
    for way in WAYS:
        assert scores[f"{way}_masked_relative_mse"] == pytest.approx(0, **CLOSE)
        assert scores[f"{way}_unmasked_relative_mse"] == pytest.approx(1, **CLOSE)  # the stain is in the reconstruction, too
    assert set(scores) == {f"{way}_{where}" for way in WAYS for where in ("masked_relative_mse", "unmasked_relative_mse")}  # no classifier


@torch.no_grad()
def test_leaving_images_as_they_are_is_the_unit_of_the_error(faces):
    scores = found_by(Oracle(faces, stain=0.3, ignores=True), faces, EDITED)
    for way in WAYS:
        assert scores[f"{way}_masked_relative_mse"] == pytest.approx(1, **CLOSE)
        assert scores[f"{way}_unmasked_relative_mse"] == pytest.approx(1, **CLOSE)


@torch.no_grad()
def test_a_change_of_something_else_is_an_error_outside(faces):
    plain, smiling = (found_by(Oracle(faces, stain=0.3, smiles=smiles), faces, EDITED) for smiles in (False, True))
    assert smiling["add_unmasked_relative_mse"] > 1.1 > plain["add_unmasked_relative_mse"]
    # Its reconstructions with glasses are the ones that smile.
    assert smiling["remove_unmasked_relative_mse"] < 0.9 < plain["remove_unmasked_relative_mse"]
    assert smiling["add_masked_relative_mse"] < 0.1  # smiles hardly reach the glasses


@torch.no_grad()
def test_the_classifier_judges_edits_and_reconstructions(designed):
    scores = found_by(Oracle(designed), designed, EDITED, features=looked_up(designed))
    for way in WAYS:
        assert scores[f"{way}_success"] == 1
        assert scores[f"{way}_success_reconstruction"] == (way == "swap")
        assert scores[f"{way}_attribute_preservation"] == 1
    assert scores["add_masked_relative_mse"] == pytest.approx(0, **CLOSE)
    assert scores["remove_masked_relative_mse"] == pytest.approx(0, **CLOSE)


@torch.no_grad()
def test_an_ignored_attribute_has_no_success(designed):
    scores = found_by(Oracle(designed, ignores=True), designed, EDITED, features=looked_up(designed))
    for way in WAYS:
        assert scores[f"{way}_success"] == scores[f"{way}_success_reconstruction"] == (way == "swap")
        assert scores[f"{way}_attribute_preservation"] == 1


@torch.no_grad()
def test_other_attributes_that_change_are_not_kept(designed):
    context = EvalContext(Oracle(designed, smiles=True), designed, features=looked_up(designed))
    scores = by_metric(transfer(context))
    smile = designed.attributes[:, ATTRIBUTE_NAMES.index("Smiling")]
    for way in ("add", "remove"):  # smiles with glasses, so half of those without them gain or lose one; nothing else varies
        edits = pairs_of(context, GLASSES)[way].edits
        expected = smile[edits.positions].mean()
        assert 0.2 < expected < 0.8
        assert scores[f"{way}_attribute_preservation"] == pytest.approx(expected)
    assert scores["swap_attribute_preservation"] == 1
    assert scores["add_success"] == 1


@torch.no_grad()
def test_probes_read_what_the_content_code_tells(faces):
    blind, leaking = (found_by(Oracle(faces, ignores=ignores), faces, CONTENT) for ignores in (False, True))
    for name in CONTENT:
        assert leaking[name] > 0.85
        assert blind[name] == pytest.approx(0.5, abs=0.15)  # 40 of 200 faces have glasses


@torch.no_grad()
def test_large_codes_are_reduced_for_the_probes_with_a_note(faces, monkeypatch):
    model = Oracle(faces)
    shown = []
    monkeypatch.setattr(module, "reduce", lambda train, test: shown.append(train) or (train[:, :3], test[:, :3], True))
    context = EvalContext(model, faces)
    content_scores(context, model, GLASSES)
    assert shown[0].shape == (400, model.content_dim)
    assert (shown[0][:, PARTS] == 0).all()  # of the content alone
    assert f"{model.content_dim} dimensions of content were reduced to 3" in context.notes[0]


def test_truths_are_the_same_face_with_the_guides_own_glasses_or_with_none(faces):
    context = EvalContext(Autoencoder((3, 32, 32), 4), faces)
    for way, pairs in pairs_of(context, GLASSES).items():
        edits, has = pairs.edits, faces.attributes[:, GLASSES]
        assert len(edits.positions) >= 30
        assert (has[edits.positions] == (way != "add")).all()
        assert (has[pairs.guides] == (way != "remove")).all()
        assert (edits.positions != pairs.guides).all()
        assert len(np.unique(edits.positions)) == len(edits.positions)
        assert (edits.columns == GLASSES).all()
        own, guides = faces.factors[edits.positions], faces.factors[pairs.guides]
        rest = np.delete(np.arange(len(FACTOR_NAMES)), PARTS)
        np.testing.assert_array_equal(edits.truths[:, :, rest], np.broadcast_to(own[:, None, rest], edits.truths[:, :, rest].shape))
        if way == "remove":
            images = drawn(edits.truths[:5], 32)
            assert edits.truths.shape[1] == GUIDES
            assert (images == images[:, :1]).all()  # whatever style the glasses would have that are not there
        else:
            np.testing.assert_array_equal(edits.truths[:, 0][:, PARTS], guides[:, PARTS])


def test_only_possible_pairs_are_made(faces):
    test = faces.indices("test")
    impossible = 0
    for column, name in enumerate(ATTRIBUTE_NAMES):
        has = faces.attributes[test, column] == 1
        for wanted in (True, False):
            targets, guides = test[has != wanted], test[has == wanted]
            edits = pairs_between(faces, targets, guides, column, wanted, 1000).edits
            impossible += min(len(targets), len(guides)) - len(edits.positions)
            assert len(edits.positions) == len(edits.truths) > 0, (name, wanted)
            for truths in edits.truths.swapaxes(0, 1):
                assert (attributes_of(truths)[:, column] == wanted).all(), (name, wanted)
    assert impossible > 0  # bald faces cannot be given bangs


def test_as_many_pairs_as_asked_for(faces, monkeypatch):
    context = EvalContext(Autoencoder((3, 32, 32), 4), faces)
    every = pairs_of(context, GLASSES)
    monkeypatch.setattr(module, "PAIRS", 7)
    few = pairs_of(context, GLASSES)
    for way in WAYS:
        assert len(few[way].guides) == len(few[way].edits.truths) == 7
        np.testing.assert_array_equal(few[way].edits.positions, every[way].edits.positions[:7])
    other = pairs_of(EvalContext(Autoencoder((3, 32, 32), 4), faces, seed=1), GLASSES)
    assert not np.array_equal(other["add"].guides, few["add"].guides)


@torch.no_grad()
def test_in_the_protocol_every_number_is_named_after_its_count(context, faces):
    torch.manual_seed(0)
    model = UDT(backbone=ConvBackbone(image_size=32, channels=3, width=16), latent_dim=8, attribute_dim=2, domain="Eyeglasses")
    model.set_attribute_names(faces.attribute_names)
    measured = context(model)
    numbers = evaluate(measured, ["transfer"])
    assert set(numbers) == {f"transfer/{name}@200" for name in METRICS["transfer"]}
    assert all(math.isfinite(value) for value in numbers.values())
    rich = int(faces.attributes[faces.indices("test"), GLASSES].sum())
    assert any(f"on only {rich} pairs instead of 200" in note for note in measured.notes)
    measured.count = 10_000
    measured.wanted = None
    assert [one.n for one in measured.records("transfer", {"swap_success": 0.5, "content_mlp": 0.5})] == [1000, 10_000]
    some = evaluate(context(model), ["remove_masked_relative_mse", "content_linear"])
    assert some == {name: numbers[name] for name in ("transfer/remove_masked_relative_mse@200", "transfer/content_linear@200")}


@torch.no_grad()
def test_other_models_have_no_such_numbers(context):
    measured = context()
    assert transfer(measured) == []
    assert measured.notes == []


@torch.no_grad()
def test_where_hardly_anyone_has_the_attribute_nothing_is_measured(tmp_path):
    for rich in (0, 9, 80):
        source = Quadrants()
        source.bits[80:, 1] = np.arange(80) < rich
        store = prepare(source, tmp_path / f"{rich}")
        model = UDT(backbone=ConvBackbone(image_size=8, channels=1, width=16), latent_dim=4, attribute_dim=1, domain="B")
        model.set_attribute_names(store.attribute_names)
        context = EvalContext(model, store, features=KnownClassifier(store.attribute_names, brightness))
        assert transfer(context) == []
        assert context.notes == [
            f"Transfer is not measured: {rich} images of the split 'test' have B and {80 - rich} lack it, and 10 of each are needed."
        ]


@torch.no_grad()
def measured_on(store):
    scores = found_by(Oracle(store, stain=0.3, smiles=True), store, EDITED, features=looked_up(store))
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def test_two_ranks_give_the_same_numbers_as_one(designed, tmp_path, monkeypatch):
    import zoo.evaluation.context

    monkeypatch.setattr(zoo.evaluation.context.rows_of, "__defaults__", (7,))  # several chunks each
    alone = measured_on(designed)
    assert on_both_of_two_ranks(tmp_path, lambda: measured_on(designed)) == [alone, alone]
    assert len(alone) == 14  # of 15; there is nothing to change inside when glasses are swapped
