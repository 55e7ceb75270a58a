"""ACAI's lines and their metric, against the golden values of the original code (reference/methods.md, 1.4)."""

import numpy as np
import pytest
import torch

from zoo.data.lines import Lines, draw_uint8
from zoo.data.loader import BatchLoader
from zoo.data.store import prepare
from zoo.errors import ZooError
from zoo.metrics.interpolations import draw, line_templates, mean_distance_and_smoothness, smoothness

START, STOP = 5 * np.pi / 7, 3 * np.pi / 2  # the pair in the authors' notebook
SHARE = np.linspace(0, 1, 16)


def as_tensor(images: np.ndarray, pairs: int = 1) -> torch.Tensor:
    return torch.from_numpy(images).view(pairs, 16, 32, 32)


def blend(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Pixel-wise mixtures (P, 16, 32, 32) of two stacks of lines."""
    weight = SHARE[None, :, None, None]
    return (1 - weight) * first + weight * last


def test_range_symmetry_and_direction():
    images = draw(np.linspace(0, 2 * np.pi, 500))
    assert images.shape == (500, 1, 32, 32)
    assert images.dtype == np.float32
    assert images.min() == -1
    assert images.max() == 1
    right, up = draw(np.array([0, np.pi / 2]))[:, 0]
    assert (right[15:17, 16:31] == 1).all()
    assert right.sum() == 30 - (1024 - 30)  # two rows of 15 pixels and no more
    assert (up[1:16, 15:17] == 1).all()
    assert up[:, 20:].max() == -1


def test_the_line_is_2_px_wide_along_the_scan_and_not_across():
    ink = ((draw(np.random.default_rng(0).uniform(0, 2 * np.pi, 20_000)) + 1) / 2).sum((1, 2, 3))
    assert ink.mean() == pytest.approx(27.4, abs=0.05)  # 30.0 if it were 2 px wide across
    diagonal = draw(np.array([np.pi / 4]))[0, 0]
    np.testing.assert_allclose((diagonal + 1).sum(0)[18:25] / 2, 2, atol=1e-5)


def test_pixels_are_covered_by_their_exact_share():
    angle = 2.0  # steep, to the upper left: rows are scanned
    image, slope = (draw(np.array([angle]))[0, 0] + 1) / 2, -np.cos(angle) / np.sin(angle)
    for row in range(4, 15):
        left = 15 + (row - 16.5) * slope
        fine = (left + np.arange(20_000) * 1e-4).astype(int)
        np.testing.assert_allclose(image[row], np.bincount(fine, minlength=32) * 1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("images", "distance", "smooth"),
    [
        (draw(START + SHARE * (STOP - START)), (1.9e-7, 2.05e-7), (1.6e-5, 1.8e-5)),
        (blend(draw(np.array([START])), draw(np.array([STOP]))).astype(np.float32), (7.21e-3, 7.23e-3), (0.920, 0.922)),
        (draw(np.repeat([START, STOP], 8)), (2.4e-7, 2.55e-7), (0.93333, 0.93334)),
        (draw(START + SHARE * (STOP - START - 2 * np.pi)), (1.7e-7, 1.85e-7), (4.3e-5, 4.5e-5)),
    ],
    ids=["correct", "data-space", "abrupt", "overshooting"],
)
def test_golden_scores_of_the_authors_examples(images, distance, smooth):
    scores = mean_distance_and_smoothness(as_tensor(images))
    assert distance[0] < scores.mean_distance < distance[1]
    assert smooth[0] < scores.smoothness < smooth[1]
    assert scores.undefined == 0
    assert scores.smoothness_unbiased == scores.smoothness


def test_golden_averages_over_random_pairs():
    start, stop = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 128))
    turn = np.mod(stop - start + np.pi, 2 * np.pi) - np.pi
    ideal = draw((start[:, None] + turn[:, None] * SHARE).ravel())
    scores = mean_distance_and_smoothness(as_tensor(ideal, 128))
    assert 1.5e-7 < scores.mean_distance < 1.9e-7
    assert scores.smoothness < 1e-3
    mixed = mean_distance_and_smoothness(torch.from_numpy(blend(draw(start), draw(stop))))
    assert 5.7e-3 < mixed.mean_distance < 6.9e-3
    assert 0.84 < mixed.smoothness < 0.93


def test_eight_bits_cost_next_to_nothing():
    stored = draw_uint8(START + SHARE * (STOP - START)) / np.float32(127.5) - 1
    scores = mean_distance_and_smoothness(as_tensor(stored))
    assert scores.mean_distance < 3e-7
    assert scores.smoothness < 1e-3


def test_smoothness_unwraps_and_leaves_standing_pairs_undefined():
    even = torch.linspace(6.0, 7.0, 16, dtype=torch.float64).remainder(2 * torch.pi)  # crosses 2π
    still = torch.full((16,), 3.0, dtype=torch.float64)
    there_and_back = torch.tensor([0.0] * 7 + [1.0] + [0.0] * 7 + [0.5], dtype=torch.float64)
    scores = smoothness(torch.stack([even, still, there_and_back]))
    assert scores[0].item() == pytest.approx(0, abs=1e-12)
    assert scores[1].isnan()
    assert scores[2] > 1


def test_official_mean_counts_undefined_pairs_and_the_unbiased_one_does_not():
    moving, still = draw(START + SHARE * (STOP - START)), draw(np.full(16, START))
    abrupt = draw(np.repeat([START, STOP], 8))
    scores = mean_distance_and_smoothness(as_tensor(np.concatenate([moving, still, abrupt, still]), 4))
    assert scores.undefined == 0.5
    assert scores.smoothness_unbiased == pytest.approx((14 / 15) / 2, abs=1e-4)
    assert scores.smoothness == pytest.approx((14 / 15) / 4, abs=1e-4)
    all_still = mean_distance_and_smoothness(as_tensor(still))
    assert np.isnan(all_still.smoothness)
    assert np.isnan(all_still.smoothness_unbiased)
    assert all_still.undefined == 1


def test_templates_are_unit_vectors_at_equal_angles():
    lines, angles = line_templates(100)
    torch.testing.assert_close(lines.norm(dim=1), torch.ones(100, dtype=torch.float64))
    torch.testing.assert_close(angles.diff(), torch.full((99,), 2 * torch.pi / 100, dtype=torch.float64))


def test_metric_refuses_other_shapes():
    with pytest.raises(ValueError, match="P, N"):
        mean_distance_and_smoothness(torch.zeros(4, 1, 32, 32))


def test_source():
    source = Lines(train=3000, val=200, test=100)
    listing = source.scan()
    assert len(set(listing.names)) == 3300
    assert np.bincount(listing.splits).tolist() == [3000, 200, 100]
    angles = listing.factors[:, 0]
    assert angles.min() >= 0
    assert angles.max() < 2 * np.pi
    assert len(np.unique(source.angles)) == 3300  # no line is in two splits
    np.testing.assert_array_equal(listing.attributes.argmax(1), (10 * source.angles / (2 * np.pi)).astype(int))
    assert listing.attributes.mean(0).std() < 0.02
    chunk = source.read(2990, 3010)
    np.testing.assert_array_equal(chunk.images, draw_uint8(source.angles[2990:3010]))
    assert chunk.images.dtype == np.uint8
    assert chunk.digests == []


def test_source_depends_on_the_seed_and_not_on_the_sizes():
    small, large, other = Lines(10, 5, 5), Lines(20, 5, 5), Lines(10, 5, 5, seed=1)
    np.testing.assert_array_equal(small.angles[:10], large.angles[:10])
    np.testing.assert_array_equal(small.angles[10:], large.angles[20:])
    assert not np.isin(small.angles, other.angles).any()
    assert small.angles[0] == pytest.approx(3.6753230476290444)  # on every machine, with every numpy
    assert len({source.fingerprint() for source in (small, large, other)}) == 3


def test_source_refuses_other_sizes():
    with pytest.raises(ZooError, match="32×32"):
        Lines(image_size=64)
    with pytest.raises(ZooError, match="at least one"):
        Lines(val=0)
    with pytest.raises(ZooError, match="a seed from 0"):
        Lines(10, 5, 5, seed=2**64)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_training_has_nothing_to_do_with_the_angles(tmp_path, seed):
    """Both come from Philox: with the same key an epoch would go round the circle."""
    store = prepare(Lines(train=2048, val=64, test=64, seed=seed), tmp_path, False)
    for epoch in range(3):
        loader = BatchLoader(store, "train", 64, seed=seed)
        loader.set_epoch(epoch)
        angles = np.concatenate([store.factors[batch.index.numpy(), 0] for batch in loader])
        assert abs(np.corrcoef(np.arange(len(angles)), angles)[0, 1]) < 0.1
