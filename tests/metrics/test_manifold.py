import subprocess
import sys

import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.feature_sets import ManifoldScores, manifold_scores


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(real: torch.Tensor, fake: torch.Tensor) -> tuple[float, float, float, float]:
    """The papers' sums, image by image, over squared distances (exact for small whole numbers, so that ties are ties)."""
    real, fake = real.double().numpy(), fake.double().numpy()
    count = len(real)

    def square(x, y):
        return ((x - y) ** 2).sum()

    def radius(rows, i, k):
        return sorted(square(rows[i], rows[j]) for j in range(count) if j != i)[k - 1]

    real_3 = [radius(real, i, 3) for i in range(count)]
    real_5 = [radius(real, i, 5) for i in range(count)]
    fake_3 = [radius(fake, j, 3) for j in range(count)]
    precision = np.mean([any(square(real[i], y) <= real_3[i] for i in range(count)) for y in fake])
    recall = np.mean([any(square(x, fake[j]) <= fake_3[j] for j in range(count)) for x in real])
    density = np.mean([sum(square(real[i], y) < real_5[i] for i in range(count)) / 5 for y in fake])
    coverage = np.mean([any(square(real[i], y) < real_5[i] for y in fake) for i in range(count)])
    return precision, recall, density, coverage


@pytest.mark.parametrize("dim", [1, 3, 20])
def test_equals_the_papers_sums(dim):
    real, fake = normal(60, dim), 0.7 * normal(60, dim, seed=1) + 0.4
    scores = manifold_scores(real, fake)
    assert scores == pytest.approx(brute_force(real, fake), rel=1e-12)
    assert len(set(scores)) > 1


@pytest.mark.parametrize("high", [2, 4, 9])
def test_equals_the_papers_sums_where_points_coincide_and_distances_tie(high):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        real, fake = (torch.randint(0, high, (50, 2), generator=generator) for _ in range(2))
        scores = manifold_scores(real, fake)
        assert scores == pytest.approx(brute_force(real, fake), rel=1e-12)
        assert manifold_scores(real / 4 + 1000, fake / 4 + 1000) == scores


def test_scores_by_hand():
    """Real images at 0, 1, …, 9: their radii are 2 (k = 3) and 3 (k = 5), at the ends 3, 2, 2, … and 5, 4, 3, 3, …"""
    real = torch.arange(10.0)[:, None]
    fake = torch.tensor([4.4] * 8 + [9.9, 14.0])[:, None]
    # Precision: all but 14, as the ball of 9 ends at 12. Recall: the eight copies have radius 0 and hit nothing; the balls of 9.9 and 14
    # both end at the copies and hold 5, 6, …, 9. Density: 4.4 lies in all ten balls, 9.9 in those of 7, 8 and 9, and 14 on the surface of
    # the ball of 9, which is open. Coverage: every ball holds 4.4.
    assert manifold_scores(real, fake) == pytest.approx((0.9, 0.5, (8 * 10 + 3) / 50, 1.0))


def test_a_copy_scores_one_in_any_order():
    real = normal(300, 64)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert manifold_scores(real, real) == (1, 1, 1, 1)
    assert manifold_scores(real + 100, (real + 100)[order]) == (1, 1, 1, 1)


def test_far_away_scores_zero():
    assert manifold_scores(normal(100, 8), normal(100, 8, seed=1) + 100) == (0, 0, 0, 0)


def test_draws_of_the_same_distribution_have_the_expected_density_and_coverage():
    scores = [manifold_scores(normal(500, 4, seed=2 * i), normal(500, 4, seed=2 * i + 1)) for i in range(8)]
    density, coverage = np.mean([s.density for s in scores]), np.mean([s.coverage for s in scores])
    assert density == pytest.approx(1, abs=0.03)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.01)  # 2002.09797: whatever the distribution


def test_a_dropped_mode_lowers_recall_and_coverage_only():
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0]])
    real = normal(400, 2) + modes[torch.arange(400) % 2]
    both = normal(400, 2, seed=1) + modes[torch.arange(400) % 2]
    one = normal(400, 2, seed=1) + modes[0]
    full, dropped = manifold_scores(real, both), manifold_scores(real, one)
    assert dropped.precision == pytest.approx(full.precision, abs=0.05)
    assert dropped.density == pytest.approx(full.density, abs=0.15)
    assert full.recall > 0.95
    assert full.coverage > 0.9
    assert dropped.recall <= 0.5
    assert dropped.coverage <= 0.5


def test_one_real_outlier_lifts_precision_but_hardly_density():
    real = normal(200, 2)
    real[0] = 1000
    fake = normal(200, 2, seed=1) + 500
    scores = manifold_scores(real, fake)
    assert scores.precision > 0.3
    assert scores.density < 0.21
    assert scores.coverage == 1 / 200


def test_a_collapsed_generator_reaches_nothing_but_its_own_image():
    real = normal(50, 8) + 10
    scores = manifold_scores(real, real[:1].repeat(50, 1))
    assert scores.precision == 1
    assert scores.recall == 1 / 50
    assert manifold_scores(real, normal(1, 8, seed=1).repeat(50, 1) + 10).recall == 0


@pytest.mark.parametrize("chunk", [1, 17, 1000])
def test_chunks_change_nothing(chunk):
    real, fake = normal(150, 16), normal(150, 16, seed=1)
    assert manifold_scores(real, fake, chunk) == manifold_scores(real, fake)


def test_bad_input_is_named():
    rows = normal(6, 3)
    assert isinstance(manifold_scores(rows, rows), ManifoldScores)
    with pytest.raises(ZooError, match="fewer than 6 images, and there are 5"):
        manifold_scores(rows[:5], rows[:5])
    with pytest.raises(ZooError, match="as many generated as real images, not 6 and 8"):
        manifold_scores(normal(8, 3), rows)
    with pytest.raises(ZooError, match="3 and 2 values"):
        manifold_scores(rows, rows[:, :2])
    with pytest.raises(ZooError, match="1 of 6 feature vectors are not finite"):
        manifold_scores(rows, rows.index_fill(0, torch.tensor([2]), float("inf")))


@pytest.mark.slow
@pytest.mark.parametrize("dim", [384, 2048])
def test_10_000_images_take_less_than_1_gib(dim):
    script = f"""if True:
        import resource, torch
        from zoo.metrics.feature_sets import manifold_scores
        real, fake = torch.rand(2, 10_000, {dim})
        manifold_scores(real[:100], fake[:100])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        manifold_scores(real, fake)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)"""
    gibibytes = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert float(gibibytes) < 1
