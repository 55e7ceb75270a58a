import numpy as np
import pytest
import torch

from zoo.metrics.feature_sets import neighbour_distances


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_distances(rows: torch.Tensor) -> np.ndarray:
    """Of each row to all others, ascending."""
    values = rows.double().numpy()
    found = np.array([[np.sqrt(((x - y) ** 2).sum()) for y in values] for x in values])
    np.fill_diagonal(found, np.inf)
    return np.sort(found)


@pytest.mark.parametrize("chunk", [1, 7, 256])
@pytest.mark.parametrize("k", [1, 5, 39])
def test_equals_a_loop_over_all_pairs_for_any_chunk(k, chunk):
    rows = normal(40, 12) + 5
    np.testing.assert_allclose(neighbour_distances(rows, k, chunk), all_distances(rows)[:, :k], rtol=1e-13)


def test_a_row_is_left_out_by_its_index_so_that_copies_count():
    rows = normal(20, 3)
    rows[13] = rows[4]
    for chunk in (6, 256):
        distances = neighbour_distances(rows, 3, chunk)
        np.testing.assert_allclose(distances, all_distances(rows)[:, :3], rtol=1e-13)
        assert (distances[:, 0] == 0).nonzero()[:, 0].tolist() == [4, 13]


def test_copies_are_at_exactly_zero_and_near_copies_are_resolved_far_from_the_origin():
    rows = normal(200, 256) + 1e3
    rows[100:110] = rows[0]
    rows[150] = rows[0]
    rows[150, 7] += 2**-13  # the last bit of a float32 near 1,000
    distances = neighbour_distances(rows, 12)[0]
    assert (distances[:10] == 0).all()
    assert distances[10] == (rows[150, 7] - rows[0, 7]).abs()
    assert distances[11] > 1


def test_order_is_right_even_where_the_search_cannot_tell_neighbours_apart():
    rows = normal(100, 64).double()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    rows[order] = rows[99] + 1e-10 * (1 + torch.arange(30.0)[:, None])
    torch.testing.assert_close(neighbour_distances(rows, 30)[99], 8e-10 * (1 + torch.arange(30.0).double()), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_half_precision_and_float64_vectors(dtype):
    rows = normal(9, 8).to(dtype)
    distances = neighbour_distances(rows, 2)
    np.testing.assert_allclose(distances, all_distances(rows)[:, :2], rtol=1e-13)
    assert distances.dtype == torch.float64
