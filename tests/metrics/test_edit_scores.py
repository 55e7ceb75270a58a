"""Scores of edited images: what the classifier says, and made against true changes."""

import math

import pytest
import torch

from zoo.metrics.edits import (
    Errors,
    attribute_preservation,
    change_cosine,
    change_share,
    changes,
    classified_as,
    errors,
    masked_relative_mse,
    nearest,
    unmasked_relative_mse,
)

GENERATOR = torch.Generator().manual_seed(0)


def images(*shape, low=-0.5, high=0.5):
    """Random images that changes of less than 0.5 do not push out of [-1, 1]."""
    return low + (high - low) * torch.rand(*shape, generator=GENERATOR)


def test_judged_as_looks_at_the_edited_attribute_and_the_wanted_direction():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    attribute, wanted = torch.tensor([0, 1, 0, 1]), torch.tensor([True, True, False, False])
    assert classified_as(probabilities, attribute, wanted).tolist() == [1, 0, 0, 1]


def test_attribute_preservation_counts_changed_judgements_of_the_others_only():
    before = torch.tensor([[0.9, 0.9, 0.1, 0.1]]).expand(3, -1)
    after = torch.tensor([[0.1, 0.6, 0.4, 0.1], [0.1, 0.1, 0.9, 0.1], [0.1, 0.1, 0.9, 0.9]])
    others = torch.tensor([[False, True, True, True], [False, True, True, False], [False, False, False, False]])
    # The first attribute is the edited one; none left: nothing is lost.
    assert attribute_preservation(after, before, others).tolist() == [1, 0, 1]
    assert attribute_preservation(after[1:2], before[1:2], torch.tensor([[False, True, True, True]])).item() == pytest.approx(1 / 3)


def test_a_perfect_edit_is_perfect_however_poor_the_reconstruction():
    originals, change, blur = images(5, 3, 8, 8), images(5, 3, 8, 8, low=-0.2, high=0.2), images(5, 3, 8, 8, low=-0.2, high=0.2)
    truths, plain = originals + change, originals + blur
    exact = changes(originals, originals, truths, truths)
    assert exact.truth_mse.max() == 0
    assert exact.reconstruction_mse.max() == 0
    blurred = changes(originals, plain, plain + change, truths)
    for found in (exact, blurred):
        assert change_cosine(found) == pytest.approx(1, abs=1e-6)
        assert change_share(found) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(blurred.truth_mse, (blur / 2).square().mean((1, 2, 3)))  # on [0, 1] images
    torch.testing.assert_close(blurred.truth_mse, blurred.reconstruction_mse)


def test_an_ignored_edit_scores_zero_and_misses_the_whole_change():
    originals, change = images(4, 3, 8, 8), images(4, 3, 8, 8)
    found = changes(originals, originals, originals, originals + change)
    assert change_cosine(found) == 0
    assert change_share(found) == 0
    torch.testing.assert_close(found.truth_mse, (change / 2).square().mean((1, 2, 3)))


def test_share_measures_strength_and_cosine_does_not():
    originals, change = images(4, 1, 8, 8), images(4, 1, 8, 8, low=-0.1, high=0.1)
    for strength in (0.5, -1, 3):
        found = changes(originals, originals, originals + strength * change, originals + change)
        assert change_share(found) == pytest.approx(strength, abs=1e-5)
        assert change_cosine(found) == pytest.approx(1 if strength > 0 else -1, abs=1e-5)


def test_changing_something_else_as_much_lowers_the_cosine_and_not_the_share():
    originals = torch.zeros(2, 1, 4, 4)
    truth, edit = originals.clone(), originals.clone()
    truth[..., :2] = 0.5
    edit[:] = 0.5  # the right half, and the wrong one
    found = changes(originals, originals, edit, truth)
    assert change_share(found) == 1
    assert change_cosine(found) == pytest.approx(2**-0.5)


def test_the_nearest_right_change_is_chosen_for_each_image():
    made, true = images(3, 1, 4, 4), images(3, 4, 1, 4, 4)
    for row, place in enumerate((2, 0, 3)):
        true[row, place] = made[row] + 0.01
    assert nearest(made, true).tolist() == [2, 0, 3]


def test_edits_with_hardly_anything_to_change_hardly_count():
    originals = torch.zeros(2, 1, 4, 4)
    truths, edits = originals.clone(), originals.clone()
    truths[0], edits[0] = 0.5, 0.5
    truths[1, 0, 0, 0], edits[1, 0, 0, 1] = 1e-3, 1e-3  # next to nothing, and the wrong pixel
    assert change_cosine(changes(originals, originals, edits, truths)) == pytest.approx(1, abs=1e-5)


def test_outputs_beyond_the_range_are_clamped():
    white, black = torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2)
    found = changes(black, black, 5 * white, white)
    assert found.truth_mse.item() == 0
    assert change_share(found) == 1


def random_images(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=GENERATOR)


def test_masked_errors_are_relative_to_leaving_the_image_as_it_is():
    originals, noise = random_images(5, 3, 8, 8), random_images(5, 3, 8, 8)
    truths = originals.clone()
    truths[:, 1, :4] += 100  # of one channel alone, modulo 256
    assert masked_relative_mse(errors(originals, noise, originals, truths)) == 1
    assert masked_relative_mse(errors(originals, noise, truths, truths)) == 0
    half = originals.clone()
    half[:, 1, :2] = truths[:, 1, :2]
    found = errors(originals, noise, half, truths)
    expected = (originals[:, 1, 2:4].double() - truths[:, 1, 2:4]).square().sum() / (originals.double() - truths).square().sum()
    assert masked_relative_mse(found) == pytest.approx(expected.item(), rel=1e-5)


def test_unmasked_errors_are_relative_to_the_reconstructions():
    originals = random_images(5, 3, 8, 8) // 2
    truths, plain, edits = originals.clone(), originals + 10, originals + 20
    truths[:, :, :4] += 50
    edits[:, :, :4] = 255  # masked, however wrong
    plain[:, :, :4] = 255
    found = errors(originals, plain, edits, truths)
    assert unmasked_relative_mse(found) == pytest.approx(4, rel=1e-5)
    torch.testing.assert_close(found.reconstruction_unmasked, torch.full((5,), 3 * 4 * 8 * (10 / 255) ** 2))


def test_every_value_is_masked_or_not():
    originals, plain, edits, truths = (random_images(3, 3, 8, 8) for _ in range(4))
    truths[:, :, ::2] = originals[:, :, ::2]
    found = errors(originals, plain, edits, truths)
    torch.testing.assert_close(found.edit_masked + found.edit_unmasked, ((edits.float() - truths.float()) / 255).square().sum((1, 2, 3)))


def test_ratios_are_of_sums_over_all_images_and_undefined_where_nothing_changes():
    found = Errors(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0]), torch.tensor([3.0, 0.0]), torch.tensor([1.0, 2.0]))
    assert masked_relative_mse(found) == 0.25
    assert unmasked_relative_mse(found) == 1
    same = random_images(2, 3, 4, 4)
    assert math.isnan(masked_relative_mse(errors(same, same, same, same)))
