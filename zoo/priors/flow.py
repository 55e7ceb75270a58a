"""Normalizing flow of standardised latents, fitted by maximum likelihood: the second of two stages (methods: two_stage), as a prior."""

import copy
import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from zoo.errors import ZooError
from zoo.losses import at_least_float32
from zoo.nets.flows import Flow as Transform
from zoo.nets.flows import log_likelihood
from zoo.nets.latent_flows import CouplingFlow
from zoo.priors.base import Prior
from zoo.priors.normal import enough, normal_draws

CHECKS = 40  # looks at the held-out latents in a fit
INITIAL = 1024  # latents that data-dependent layers start from
CLIP = 5.0  # largest gradient norm


class Flow(Prior):
    """z = m + s · F⁻¹(u), u ~ N(0, I): m and s are the latents' mean and standard deviation per dimension, F is invertible.

    A flow overfits some thousand latents soon. So a tenth of them is held out, and the weights that are likeliest to have made that tenth
    are the ones kept.

    Args:
        transform: F, the identity at first and with `reset_parameters`; a CouplingFlow by default.
        steps, batch_size, lr: Most steps of Adam in a fit, latents in each; their learning rate falls from `lr` to 0 along a cosine.
        patience: A fit ends after so many looks, of 40, at the held-out latents without an improvement.
    """

    name = "flow"
    mean: Tensor
    scale: Tensor
    fitted: Tensor
    held_out_nll: Tensor

    def __init__(
        self,
        dim: int,
        transform: Transform | None = None,
        steps: int = 1200,
        batch_size: int = 256,
        lr: float = 4e-3,
        patience: int = 10,
    ) -> None:
        super().__init__(dim)
        self.transform = (CouplingFlow(dim) if transform is None else transform).requires_grad_(False)  # no model trains it unasked
        self.steps, self.batch_size, self.lr, self.patience = steps, batch_size, lr, patience
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("held_out_nll", torch.zeros(()))  # of the last fit, nats per latent

    def is_fitted(self) -> bool:
        return bool(self.fitted)

    @torch.no_grad()
    def fit(self, latents: Tensor, seed: int = 0) -> None:
        """Fits F anew from fresh weights. What it draws depends on the seed alone, and the global random state stays as it is.

        Raises ZooError for latents that are too few or not finite, or a dimension of them that is constant: it has no density.
        """
        mean, scale = standardisation(enough(latents, self.dim))
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        generator = Generator().manual_seed(seed)
        order = torch.randperm(len(latents), generator=generator).to(self.mean.device)
        standardised = (latents.to(self.mean) - self.mean) / self.scale
        held_out, rest = standardised[order].tensor_split([max(1, len(latents) // 10)])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            fresh: Any = copy.deepcopy(self.transform).cpu()  # the same weights on every device
            fresh.reset_parameters()
        transform = fresh.to(self.mean.device).requires_grad_(True)
        transform.initialize(rest[:INITIAL])
        best, least = self._likeliest(transform, rest, held_out, generator)
        self.transform.load_state_dict(best)
        self.held_out_nll.copy_(least + self.scale.log().sum())
        self.fitted.fill_(True)

    def _likeliest(self, transform: Transform, latents: Tensor, held_out: Tensor, generator: Generator) -> tuple[dict[str, Tensor], float]:
        """Trains a transform on standardised latents (N, dim); its state where held-out ones (M, dim) were likeliest, and NLL there."""
        best, least, stale = copy.deepcopy(transform.state_dict()), nll(transform, held_out).item(), 0
        optimizer = torch.optim.Adam(transform.parameters(), lr=self.lr, foreach=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for step in range(1, self.steps + 1):
            rows = torch.randint(len(latents), (self.batch_size,), generator=generator).to(latents.device)
            with torch.enable_grad():
                loss = nll(transform, latents[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(transform.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            if step % max(1, self.steps // CHECKS) == 0:
                found = nll(transform, held_out).item()
                if found < least:
                    best, least, stale = copy.deepcopy(transform.state_dict()), found, 0
                else:
                    stale += 1
                if stale == self.patience or not math.isfinite(found):
                    break
        return best, least

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        return self.mean + self.scale * self.transform.inverse(normal_draws(count, self.dim, self.mean, generator))

    def log_prob(self, latents: Tensor) -> Tensor:
        return log_likelihood(self.transform, (at_least_float32(latents) - self.mean) / self.scale) - self.scale.log().sum()


def nll(transform: Transform, x: Tensor) -> Tensor:
    """The negative log-likelihood, mean over the rows of (B, dim), scalar."""
    return -log_likelihood(transform, x).mean()


def standardisation(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension: (N, dim) -> (dim,) × 2. Raises ZooError if a dimension is constant."""
    mean, scale = latents.mean(0), latents.std(0)
    constant = (scale <= 1e-6 * latents.abs().amax(0)).nonzero()[:, 0].tolist()  # up to the rounding of float32
    if constant:
        names = ", ".join(map(str, constant))
        raise ZooError(f"A flow cannot be fitted, as latent dimension {names} is constant; lower model.latent_dim, or fit a Gaussian.")
    return mean, scale
