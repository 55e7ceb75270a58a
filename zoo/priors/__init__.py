"""Densities over latents: `fit`, `sample`, `log_prob`."""

from zoo.priors.base import Prior
from zoo.priors.flow import Flow
from zoo.priors.mixture import Mixture
from zoo.priors.normal import Gaussian, StandardNormal

__all__ = ["Flow", "Gaussian", "Mixture", "Prior", "StandardNormal"]
