"""Directions in latent space that change an attribute (VAE-GAN, Larsen et al. 2016, https://arxiv.org/abs/1512.09300, section 4.2)."""

from torch import Tensor


def attribute_vectors(latents: Tensor, attributes: Tensor) -> Tensor:
    """Mean latent of the images with each attribute, minus the mean of those without it: (N, d) × (N, A) in {0, 1} -> (A, d).

    Summed in float64, returned as `latents`. The row of an attribute that all or none of the images have is NaN.
    """
    if latents.ndim != 2 or attributes.ndim != 2 or len(latents) != len(attributes):
        raise ValueError(f"latents are (N, d) and attributes (N, A), not {tuple(latents.shape)} and {tuple(attributes.shape)}")
    codes, has = latents.double(), attributes.double().T  # (N, d), (A, N)
    with_mean, without_mean = (rows @ codes / rows.sum(1, keepdim=True) for rows in (has, 1 - has))  # (A, d); 0 / 0 is NaN
    return (with_mean - without_mean).to(latents)
