import subprocess
import sys

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from zoo.errors import ZooError
from zoo.metrics.feature_sets import kernel_distance


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(a: torch.Tensor, b: torch.Tensor) -> float:
    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def mean(values):
        return sum(values) / len(values)

    a, b = a.tolist(), b.tolist()
    within = [mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]) for rows in (a, b)]
    return sum(within) - 2 * mean([kernel(x, y) for x in a for y in b])


@pytest.mark.parametrize("chunk", [1, 4, 5, 1024])
def test_equals_a_loop_over_all_pairs_for_any_chunk(chunk):
    a, b = normal(15, 6) + 0.3, 1.5 * normal(11, 6, seed=1)
    assert kernel_distance(a, b, chunk) == pytest.approx(brute_force(a, b), rel=1e-11)


def test_equals_torchmetrics_on_one_subset_of_all_images():
    a, b = normal(300, 64) + 0.3, normal(300, 64, seed=1)
    assert kernel_distance(a, b) == pytest.approx(poly_mmd(a, b).item(), rel=1e-9)


def test_unbiased_for_few_and_unequal_images():
    values = torch.tensor([kernel_distance(normal(5, 4, seed=2 * i), normal(9, 4, seed=2 * i + 1)) for i in range(2000)])
    standard_error = values.std() / len(values) ** 0.5
    assert abs(values.mean()) < 3 * standard_error
    assert (values < 0).any()
    assert standard_error < 0.03  # with all i = j counted, too, the mean would be 3: (E k(x, x) - E k(x, y)) (1/5 + 1/9)


def test_expectation_of_shifted_points():
    """Of δ(0) against δ(c, …, c): (c² + 1)³ + 1 - 2."""
    assert kernel_distance(torch.zeros(3, 7), torch.full((4, 7), 2.0)) == pytest.approx(5**3 - 1)


def test_sums_do_not_lose_digits_in_float32():
    a, b = (normal(400, 16) + 30).float(), (normal(400, 16, seed=1) + 30).float()  # values of k near 10⁹
    assert kernel_distance(a, b) == pytest.approx(poly_mmd(a.double(), b.double()).item(), rel=1e-9)


def test_grows_with_the_difference():
    a, b = normal(500, 16), normal(500, 16, seed=1)
    distances = [kernel_distance(a, b + shift) for shift in (0, 0.2, 0.4, 0.8)]
    assert distances == sorted(distances)
    assert abs(distances[0]) < 0.1 * distances[1]


def test_bad_input_is_named():
    with pytest.raises(ZooError, match=r"The kernel distance .* fewer than 2 images, and there are 1"):
        kernel_distance(torch.zeros(5, 3), torch.zeros(1, 3))
    with pytest.raises(ZooError, match="3 and 4 values"):
        kernel_distance(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ZooError, match="5 of 5 feature vectors are not finite"):
        kernel_distance(torch.zeros(5, 3), torch.full((5, 3), float("nan")))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pairs():
    script = """if True:
        import resource, torch
        from zoo.metrics.feature_sets import kernel_distance
        a, b = torch.rand(2, 10_000, 128)
        kernel_distance(a[:100], b[:100])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kernel_distance(a, b)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)"""
    mebibytes = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert float(mebibytes) < 200  # all pairs in float64: 763
