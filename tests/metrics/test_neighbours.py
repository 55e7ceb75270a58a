import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.neighbours import nearest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_distances(queries: torch.Tensor, base: torch.Tensor) -> np.ndarray:
    queries, base = queries.double().numpy(), base.double().numpy()
    return np.array([[np.sqrt(((x - y) ** 2).sum()) for y in base] for x in queries])


@pytest.mark.parametrize("chunk", [1, 7, 256])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_equals_a_loop_over_all_pairs_for_any_chunk(k, chunk):
    queries, base = normal(30, 12) + 5, normal(40, 12, seed=1) + 5
    distances, indices = nearest(queries, base, k, chunk=chunk)
    expected = all_distances(queries, base)
    np.testing.assert_allclose(distances, np.sort(expected)[:, :k], rtol=1e-13)
    np.testing.assert_array_equal(indices, np.argsort(expected)[:, :k])


def test_self_is_left_out_by_its_index_so_that_copies_count():
    base = normal(20, 3)
    base[13] = base[4]
    for chunk in (6, 256):
        distances, indices = nearest(base, base, 3, exclude_self=True, chunk=chunk)
        expected = all_distances(base, base)
        np.fill_diagonal(expected, np.inf)
        np.testing.assert_allclose(distances, np.sort(expected)[:, :3], rtol=1e-13)
        assert not (indices == torch.arange(20)[:, None]).any()
        assert (indices[4, 0], indices[13, 0]) == (13, 4)
        assert (distances[[4, 13], 0] == 0).all()
    distances, indices = nearest(base, base, 1)
    assert (distances == 0).all()


def test_copies_are_at_exactly_zero_and_near_copies_are_resolved_far_from_the_origin():
    base = normal(200, 256) + 1e3
    base[100:110] = base[0]
    base[150] = base[0]
    base[150, 7] += 2**-13  # the last bit of a float32 near 1,000
    distances, indices = nearest(base[:1], base, 13)
    assert (distances[0, :11] == 0).all()
    assert sorted(indices[0, :11].tolist()) == [0, *range(100, 110)]
    assert indices[0, 11] == 150
    assert distances[0, 11] == (base[150, 7] - base[0, 7]).abs()
    assert distances[0, 12] > 1


def test_order_and_indices_are_right_even_where_the_search_cannot_tell_neighbours_apart():
    base = normal(100, 64).double()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    base[order] = base[99] + 1e-10 * (1 + torch.arange(30.0)[:, None])
    distances, indices = nearest(base[99:], base[:99], 30)
    assert torch.equal(indices[0], order)
    torch.testing.assert_close(distances[0], 8e-10 * (1 + torch.arange(30.0).double()), rtol=1e-4, atol=0)


def test_half_precision_and_float64_vectors():
    queries, base = normal(5, 8).half(), normal(9, 8, seed=1).double()
    distances, _ = nearest(queries, base, 2)
    np.testing.assert_allclose(distances, np.sort(all_distances(queries, base))[:, :2], rtol=1e-13)
    assert distances.dtype == torch.float64


def test_bad_input_is_named():
    rows = normal(4, 3)
    assert nearest(rows, rows, 4)[0].shape == (4, 4)
    with pytest.raises(ZooError, match="no 5 nearest neighbours among 4: "):
        nearest(rows, rows, 5)
    with pytest.raises(ZooError, match="no 4 nearest neighbours among 3 others"):
        nearest(rows, rows, 4, exclude_self=True)
    with pytest.raises(ZooError, match="3 and 2 values"):
        nearest(rows, rows[:, :2], 1)
    with pytest.raises(ZooError, match="4 of 4 feature vectors are not finite"):
        nearest(rows * float("nan"), rows, 1)
    with pytest.raises(ValueError, match="exclude_self"):
        nearest(rows[:2], rows, 1, exclude_self=True)
