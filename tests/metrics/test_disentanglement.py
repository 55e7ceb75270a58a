"""The mutual information gap on codes whose information is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from zoo.errors import ZooError
from zoo.metrics import disentanglement
from zoo.metrics.disentanglement import mutual_information_gap


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def bias(values: int, count: int) -> float:
    """Nats by which the mutual information of two independent histograms of 20 bins and of `values` values is too large."""
    return 19 * (values - 1) / (2 * count)


def test_a_factor_held_by_one_dimension_has_a_gap_of_one():
    factors = (4 * uniform(10_000, 3)).floor()  # 4 values each
    codes = torch.cat([-7 * factors + 2, uniform(10_000, 2, seed=1)], 1)[:, [4, 2, 0, 3, 1]]
    gaps = mutual_information_gap(codes, factors)
    torch.testing.assert_close(gaps, torch.full((3,), 1 - bias(4, 10_000) / math.log(4)).double(), atol=3e-3, rtol=0)
    assert (gaps < 1).all()


def test_a_factor_held_twice_has_no_gap():
    factors = (4 * uniform(5000, 1)).floor()
    codes = torch.cat([factors, -factors, uniform(5000, 1, seed=1)], 1)
    assert mutual_information_gap(codes, factors).item() == pytest.approx(0, abs=1e-12)


def test_turning_the_codes_closes_the_gap():
    factors = uniform(20_000, 2) * 2 - 1
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2)
    assert (mutual_information_gap(factors, factors) > 0.95).all()
    assert (mutual_information_gap(factors @ turn, factors) < 0.02).all()


def test_codes_without_relation_have_no_gap():
    assert (mutual_information_gap(uniform(20_000, 6), (5 * uniform(20_000, 4, seed=1)).floor()) < 1e-3).all()


def test_noise_costs_what_the_theory_says():
    """A binary factor, flipped in 10 % of the codes: I / H = 1 - H₂(0.1) / log 2."""
    factors = (uniform(50_000, 1) < 0.5).float()
    flipped = (factors + (uniform(50_000, 1, seed=1) < 0.1)) % 2
    codes = torch.cat([flipped, uniform(50_000, 1, seed=2)], 1)
    kept = 1 + 0.1 * math.log2(0.1) + 0.9 * math.log2(0.9)
    assert mutual_information_gap(codes, factors).item() == pytest.approx(kept, abs=0.01)


def test_few_values_are_kept_apart_however_close_they_lie():
    """Of three equally frequent values the codes tell one from the others: I / H = H(1/3) / log 3."""
    factors = torch.tensor([0.0, 0.001, 1000.0]).repeat(4000)[:, None]
    codes = torch.cat([(factors == 0.001).float(), uniform(12_000, 1)], 1)
    share = (math.log(3) - 2 / 3 * math.log(2)) / math.log(3)
    assert mutual_information_gap(codes, factors).item() == pytest.approx(share, abs=5e-3)


def test_gaps_equal_those_of_scikit_learns_mutual_information():
    factors = torch.cat([uniform(800, 2), (3 * uniform(800, 1, seed=1)).floor(), (uniform(800, 1, seed=2) < 0.1).float()], 1)
    codes = factors @ torch.randn(4, 7, generator=torch.Generator().manual_seed(0)) + 0.3 * uniform(800, 7, seed=3)

    def binned(column):
        edges = np.histogram_bin_edges(column, 20)
        return np.digitize(column, edges[:-1])  # as in disentanglement_lib

    discrete = [binned(factors[:, 0].numpy()), binned(factors[:, 1].numpy()), factors[:, 2].numpy(), factors[:, 3].numpy()]
    expected = []
    for factor in discrete:
        information = sorted(mutual_info_score(factor, binned(column)) for column in codes.double().numpy().T)
        expected.append((information[-1] - information[-2]) / mutual_info_score(factor, factor))
    np.testing.assert_allclose(mutual_information_gap(codes, factors).numpy(), expected, atol=1e-10)


def test_many_dimensions_are_worked_off_in_blocks(monkeypatch):
    codes, factors = uniform(300, 11), uniform(300, 3, seed=1)
    whole = mutual_information_gap(codes, factors)
    monkeypatch.setattr(disentanglement, "CELLS", 1200)  # 4 dimensions at once
    assert torch.equal(mutual_information_gap(codes, factors), whole)


def test_a_dimension_s_units_and_order_do_not_matter_and_constant_ones_hold_nothing():
    factors = uniform(2000, 2)
    codes = torch.cat([factors, uniform(2000, 1, seed=1)], 1)
    plain = mutual_information_gap(codes, factors)
    other = torch.cat([1024 * codes.flip(1), torch.full((2000, 1), 3.0)], 1)
    torch.testing.assert_close(mutual_information_gap(other, factors), plain, atol=1e-12, rtol=0)


def test_constant_factors_have_no_gap_at_all():
    gaps = mutual_information_gap(uniform(100, 3), torch.cat([torch.full((100, 1), 0.7), uniform(100, 1, seed=1)], 1))
    assert gaps.isnan().tolist() == [True, False]


def test_collapsed_codes_have_a_gap_of_zero():
    assert mutual_information_gap(torch.ones(100, 3), uniform(100, 1)).item() == 0


def test_bad_input_is_one_sentence():
    with pytest.raises(ZooError, match="mutual information gap cannot be measured on fewer than 2 images"):
        mutual_information_gap(uniform(1, 3), uniform(1, 2))
    with pytest.raises(ZooError, match="at least 2 of them, and there is only 1"):
        mutual_information_gap(uniform(10, 1), uniform(10, 2))
    with pytest.raises(ZooError, match="mutual information gap cannot be measured: 10 of 10"):
        mutual_information_gap(uniform(10, 2) * torch.nan, uniform(10, 2))
    with pytest.raises(ValueError, match="N = 10"):
        mutual_information_gap(uniform(10, 2), uniform(9, 2))
