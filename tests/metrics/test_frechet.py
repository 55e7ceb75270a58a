import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from zoo.errors import ZooError
from zoo.metrics import feature_sets
from zoo.metrics.feature_sets import Moments, frechet_distance, moments


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(mean: torch.Tensor, factor: torch.Tensor) -> Moments:
    """The moments of N(mean, factor factorᵀ)."""
    return Moments(mean, factor @ factor.T)


def features(count: int, dim: int, seed: int) -> torch.Tensor:
    """Correlated features with a falling spectrum, their own for each seed."""
    return normal(count, dim, seed=seed) @ (normal(dim, dim, seed=seed + 1) / torch.arange(1, dim + 1)[:, None]) + normal(
        dim, seed=seed + 2
    )


def by_singular_values(a: torch.Tensor, b: torch.Tensor) -> float:
    """The distance of two sets straight from their centred rows: tr((ΣaΣb)^½) is the sum of the singular values of XYᵀ."""
    x, y = ((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in (a, b))
    overlap = torch.linalg.svdvals(x @ y.T).sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * overlap).item()


def test_closed_form_of_gaussians_with_independent_values():
    means, scales = normal(2, 20), normal(2, 20, seed=1).abs()
    a, b = (gaussian(mean, scale.diag()) for mean, scale in zip(means, scales, strict=True))
    expected = (means[0] - means[1]).square().sum() + (scales[0] - scales[1]).square().sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-12)


def test_closed_form_of_gaussians_with_full_covariances():
    means, factors = normal(2, 30), normal(2, 30, 30, seed=1)
    overlap = torch.linalg.svdvals(factors[0].T @ factors[1]).sum()
    expected = (means[0] - means[1]).square().sum() + factors.square().sum() - 2 * overlap
    assert frechet_distance(*map(gaussian, means, factors)) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("count", "dim"), [(400, 64), (300, 256)])
def test_equals_torchmetrics(count, dim):
    a, b = moments(features(count, dim, 0)), moments(features(count + 100, dim, 10))
    expected = _compute_fid(a.mean, a.covariance, b.mean, b.covariance).item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_close_sets_keep_their_digits():
    a = features(400, 64, 0)
    b = a + 1e-3 * normal(400, 64, seed=5)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(by_singular_values(a, b), rel=1e-6)


@pytest.mark.parametrize(("first", "second"), [(50, 60), (50, 500), (500, 50), (2, 50)])
def test_fewer_images_than_values(first, second):
    a, b = features(first, 128, 0), features(second, 128, 10)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(by_singular_values(a, b), rel=1e-9)


def test_values_that_never_fire():
    a, b = features(400, 64, 0), features(400, 64, 10)
    a[:, :20] = 0
    b[:, 40:] = 0
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(by_singular_values(a, b), rel=1e-6)


def test_one_image_over_and_over():
    a, b = features(200, 16, 0), torch.ones(30, 16)
    expected = (a.mean(0) - 1).square().sum() + a.var(0).sum()
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected.item(), rel=1e-12)
    assert frechet_distance(moments(b), moments(b)) == 0


@pytest.mark.parametrize("count", [40, 400])
def test_equal_sets_are_at_zero_and_never_below(count):
    for seed in range(20):
        rows = features(count, 64, seed)
        a, b = moments(rows), moments(rows.flip(0))
        assert 0 <= frechet_distance(a, b) < 1e-7 * a.covariance.trace()


def test_symmetric_and_invariant_under_rotation():
    a, b = features(300, 64, 0), features(350, 64, 10)
    rotation = torch.linalg.qr(normal(64, 64)).Q
    distance = frechet_distance(moments(a), moments(b))
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(moments(a @ rotation), moments(b @ rotation)) == pytest.approx(distance, rel=1e-11)


def test_a_shift_counts_by_its_square():
    a = features(300, 64, 0)
    assert frechet_distance(moments(a), moments(a + 0.5)) == pytest.approx(64 * 0.25, rel=1e-9)


def test_moments_are_summed_in_float64_whatever_the_offset(monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", 64)
    rows = (1e4 + normal(1000, 8)).float()
    found = moments(rows)
    exact = rows.double().numpy()
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(exact, rowvar=False), rtol=0, atol=1e-13)
    assert found.mean.dtype == found.covariance.dtype == torch.float64


def test_bad_input_is_named():
    rows = features(10, 4, 0)
    with pytest.raises(ZooError, match=r"The Fréchet distance .* fewer than 2 images, and there are 1"):
        moments(rows[:1])
    with pytest.raises(ZooError, match="4 and 3 values"):
        frechet_distance(moments(rows), moments(rows[:, :3]))
    for bad in (float("nan"), float("inf")):
        broken = rows.clone()
        broken[3, 1] = broken[3, 2] = broken[7, 0] = bad
        with pytest.raises(ZooError, match="2 of 10 feature vectors are not finite"):
            moments(broken)
        with pytest.raises(ZooError, match="not finite"):
            frechet_distance(moments(rows), moments(rows)._replace(mean=broken[3]))
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        moments(torch.zeros(10, 4, 2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("count", [3000, 1000])  # more images than values, and fewer
def test_2048_values_take_less_than_3_s_of_one_core(count):
    script = f"""if True:
        import time, torch
        from zoo.metrics.feature_sets import frechet_distance, moments
        torch.set_num_threads(1)
        a, b = (moments(torch.randn({count}, 2048, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
        torch.linalg.eigvalsh(torch.eye(2))
        begin = time.process_time()
        frechet_distance(a, b)
        print(time.process_time() - begin)"""
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    seconds = subprocess.run([sys.executable, "-c", script], env=one_core, check=True, capture_output=True, text=True).stdout
    assert float(seconds) < 3
