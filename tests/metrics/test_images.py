import torch

from zoo.batch import to_unit_range
from zoo.metrics.images import psnr, squared_error


def test_error_is_per_value_on_unit_range():
    black, white = -torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert torch.equal(squared_error(black, white), torch.ones(2))
    assert torch.equal(squared_error(black, black), torch.zeros(2))
    grey = torch.zeros(2, 3, 4, 4)
    assert torch.equal(squared_error(black, grey), torch.full((2,), 0.25))


def test_outputs_beyond_the_range_are_clamped():
    assert torch.equal(squared_error(torch.ones(1, 1, 2, 2), 3 * torch.ones(1, 1, 2, 2)), torch.zeros(1))
    assert torch.equal(to_unit_range(torch.tensor([-5.0, 0.0, 5.0])), torch.tensor([0.0, 0.5, 1.0]))


def test_psnr_in_decibel():
    torch.testing.assert_close(psnr(torch.tensor([1.0, 0.1, 0.001])), torch.tensor([0.0, 10.0, 30.0]))
