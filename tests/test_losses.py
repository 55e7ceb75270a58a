import math

import torch
from torch.distributions import Normal, kl_divergence

from zoo.losses import gaussian_nll, kl_to_standard_normal, mean_squared_error


def test_gaussian_nll_equals_the_density_of_every_value_summed():
    torch.manual_seed(0)
    x, mean = torch.randn(2, 5, 3, 8, 8, dtype=torch.float64)
    for log_scale in torch.tensor([-2.0, 0.0, 0.7], dtype=torch.float64):
        expected = -Normal(mean, log_scale.exp()).log_prob(x).sum() / 5
        torch.testing.assert_close(gaussian_nll(x, mean, log_scale), expected, rtol=1e-12, atol=0)


def test_gaussian_nll_is_smallest_where_the_scale_is_the_error():
    torch.manual_seed(0)
    x, mean = torch.randn(2, 5, 3, 8, 8, dtype=torch.float64)
    log_scale = (x - mean).square().mean().sqrt().log().requires_grad_()
    gaussian_nll(x, mean, log_scale).backward()
    assert abs(log_scale.grad.item()) < 1e-9


def test_kl_equals_torch_distributions():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 6, 10, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum() / 6
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected, rtol=1e-12, atol=0)


def test_kl_equals_its_monte_carlo_estimate():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 1, 4, dtype=torch.float64)
    posterior = Normal(mean, (log_variance / 2).exp())
    z = posterior.sample((200_000,))
    draws = (posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum((1, 2))
    error = draws.std() / math.sqrt(len(draws))
    assert abs(draws.mean() - kl_to_standard_normal(mean, log_variance)) < 4 * error


def test_losses_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.randn(4, 3, 8, 8).bfloat16()
        assert mean_squared_error(x, x + 1).dtype == torch.float32
        assert gaussian_nll(x, x + 1, torch.zeros(())).dtype == torch.float32
        assert kl_to_standard_normal(x.flatten(1), x.flatten(1)).dtype == torch.float32
