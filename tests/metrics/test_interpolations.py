import pytest
import torch

from zoo.metrics.interpolations import path_smoothness


def test_even_steps_score_zero_and_one_jump_the_most():
    even = torch.linspace(0, 1, 11)[:, None].expand(11, 4)
    jump = (torch.arange(11) > 5).float()[:, None].expand(11, 4)
    scores = path_smoothness(torch.stack([even, jump]))
    assert scores.tolist() == pytest.approx([0, 0.9], abs=1e-6)


def test_it_does_not_depend_on_scale_or_direction():
    path = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(path_smoothness(path), path_smoothness(-7 * path.flip(1)))


def test_a_path_that_does_not_move_is_not_defined():
    assert path_smoothness(torch.ones(1, 5, 2)).isnan().all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="paths are"):
        path_smoothness(torch.ones(5, 2))
