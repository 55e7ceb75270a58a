import math

import pytest
import torch
from torch.distributions import Normal

from zoo.errors import ZooError
from zoo.nets.latent_flows import CouplingFlow, ResidualFlow
from zoo.priors import Flow, Gaussian, Mixture, StandardNormal


def banana(count: int, seed: int = 0) -> torch.Tensor:
    """a ~ N(3, 2²), b ~ N(((a - 3)/2)² - 1, 0.1²)."""
    a, noise = torch.randn(2, count, generator=torch.Generator().manual_seed(seed))
    return torch.stack([3 + 2 * a, a.square() - 1 + 0.1 * noise], 1)


def banana_log_prob(x: torch.Tensor) -> torch.Tensor:
    a, b = x.unbind(1)
    return Normal(3, 2).log_prob(a) + Normal(((a - 3) / 2).square() - 1, 0.1).log_prob(b)


def small(dim: int = 2, **options) -> Flow:
    return Flow(dim, CouplingFlow(dim, transforms=4, hidden=32), **({"steps": 600} | options))


def short(dim: int = 3, **options) -> Flow:
    return Flow(dim, CouplingFlow(dim, transforms=2, hidden=8), **({"steps": 40, "batch_size": 64} | options))


@pytest.fixture(scope="module")
def fitted() -> Flow:
    prior = small()
    prior.fit(banana(4000))
    return prior


@pytest.mark.parametrize("transform", [CouplingFlow(3), ResidualFlow(3)])
def test_an_unfitted_flow_is_the_standard_normal(transform):
    prior, z = Flow(3, transform), torch.randn(5, 3)
    torch.testing.assert_close(prior.log_prob(z), StandardNormal(3).log_prob(z))
    drawn = [p.sample(5, torch.Generator().manual_seed(0)) for p in (prior, StandardNormal(3))]
    torch.testing.assert_close(*drawn)
    assert not prior.fitted


def test_a_fitted_flow_reproduces_a_known_density_where_a_mixture_does_not(fitted):
    fresh = banana(20_000, seed=1)
    truth = banana_log_prob(fresh).mean()
    mixture = Mixture(2)
    mixture.fit(banana(4000))
    assert abs(fitted.log_prob(fresh).mean() - truth) < 0.05
    assert truth - mixture.log_prob(fresh).mean() > 0.06
    entropy = math.log(2 * math.pi * math.e) + math.log(2 * 0.1)
    assert fitted.held_out_nll == pytest.approx(entropy, abs=0.15)  # 400 held-out latents
    assert fitted.fitted


def test_its_samples_follow_its_density(fitted):
    drawn = fitted.sample(20_000, torch.Generator().manual_seed(2))
    assert 0 < (fitted.log_prob(drawn) - banana_log_prob(drawn)).mean() < 0.1  # KL(q ‖ p), positive as q integrates to 1
    a, b = torch.linspace(-9, 15, 200), torch.linspace(-3, 24, 3000)
    points = torch.cartesian_prod(a, b)
    masses = fitted.log_prob(points).double().exp() * (a[1] - a[0]) * (b[1] - b[0])
    assert masses.sum() == pytest.approx(1, abs=0.01)
    for inside in (lambda x: x[:, 0] > 3, lambda x: x[:, 1] > 0, lambda x: (x[:, 0] < 2) & (x[:, 1] < -0.5)):
        assert masses[inside(points)].sum() == pytest.approx(inside(drawn).double().mean().item(), abs=0.015)


@pytest.mark.parametrize("transform", [CouplingFlow(3, 2, 8), ResidualFlow(3, 2, 8)])
def test_the_log_density_has_the_scales_share_and_is_that_of_autograds_jacobian(transform):
    torch.manual_seed(0)
    prior = Flow(3, transform, steps=60, lr=1e-2).double()
    latents = torch.randn(200, 3, dtype=torch.float64) * torch.tensor([0.01, 1.0, 50.0]) + torch.tensor([0.0, -3.0, 7.0])
    prior.fit(latents)
    for z in latents[:5]:
        to_normal = lambda point: prior.transform(((point - prior.mean) / prior.scale)[None])[0][0]  # noqa: E731
        log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(to_normal, z)).logabsdet
        exact = Normal(0, 1).log_prob(to_normal(z)).sum() + log_det
        torch.testing.assert_close(prior.log_prob(z[None])[0], exact, rtol=1e-10, atol=1e-10)
    u, drawn = (draw(7, generator=torch.Generator().manual_seed(4)) for draw in (StandardNormal(3).double().sample, prior.sample))
    torch.testing.assert_close(prior.transform((drawn - prior.mean) / prior.scale)[0], u, rtol=1e-8, atol=1e-8)


def test_the_same_seed_fits_the_same_from_scratch_and_leaves_the_random_state():
    latents = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).exp()
    prior, other = short(), short()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    prior.fit(latents, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    other.fit(latents.flip(1), seed=7)  # leaves no trace
    other.fit(latents, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(prior.state_dict().values(), other.state_dict().values(), strict=True))
    other.fit(latents, seed=2)
    assert not torch.equal(prior.log_prob(latents), other.log_prob(latents))


def test_no_model_trains_it_unasked_and_it_can_be_fitted_without_gradients():
    prior = short(2, lr=0.02)
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    with torch.no_grad():
        prior.fit(banana(1000))
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    prior.transform.requires_grad_(True)
    prior.log_prob(banana(9)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in prior.transform.parameters())


def test_the_weights_kept_are_those_of_the_best_likelihood_of_held_out_latents():
    """Some latents are soon known by heart: what is kept is no worse than the start, however long the fit."""
    torch.manual_seed(0)
    latents, fresh = torch.randn(40, 4), torch.randn(5000, 4)
    patient, hasty = (Flow(4, CouplingFlow(4, 4, 32), steps=200, lr=1e-2, patience=patience) for patience in (1000, 3))
    for prior in (patient, hasty):
        prior.fit(latents)
        assert -prior.log_prob(fresh).mean() < -StandardNormal(4).log_prob(fresh).mean() + 1.0
    assert patient.held_out_nll <= hasty.held_out_nll


def test_what_was_fitted_travels_in_the_state_dict(fitted):
    fresh, z = small(), torch.randn(9, 2)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh.log_prob(z), fitted.log_prob(z))
    assert torch.equal(*(prior.sample(9, torch.Generator().manual_seed(0)) for prior in (fresh, fitted)))
    assert fresh.held_out_nll == fitted.held_out_nll


def test_a_residual_flow_fits_what_a_gaussian_cannot():
    latents, fresh = banana(2000), banana(2000, seed=1)
    prior, gaussian = Flow(2, ResidualFlow(2, blocks=3, hidden=16), steps=80, lr=2e-2, batch_size=128), Gaussian(2)
    prior.fit(latents)
    gaussian.fit(latents)
    assert prior.log_prob(fresh).mean() > gaussian.log_prob(fresh).mean() + 0.5


def test_a_constant_dimension_is_named():
    latents = torch.randn(100, 3)
    latents[:, 1] = 0.7
    with pytest.raises(ZooError, match="latent dimension 1 is constant; lower"):
        short().fit(latents)


@pytest.mark.parametrize("latents", [torch.randn(10, 4), torch.randn(1, 3), torch.full((10, 3), torch.nan)])
def test_latents_that_cannot_be_fitted_are_refused(latents):
    with pytest.raises(ZooError, match="cannot be fitted"):
        short().fit(latents)


@torch.no_grad()
def test_codes_that_are_often_exactly_zero_give_finite_numbers():
    """UDT's attribute code of images without the attribute."""
    latents = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    latents[::2, 2] = 0
    prior = Flow(3, CouplingFlow(3, 4, 16), steps=200)
    prior.fit(latents)
    assert prior.log_prob(latents).isfinite().all()
    assert prior.sample(1000, torch.Generator().manual_seed(0)).abs().max() < 100
