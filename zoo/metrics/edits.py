"""Directions in latent space that edit an attribute, and how well it was edited: of images in [-1, 1] and of a classifier's probabilities.

The fair starting point of an edit is the model's reconstruction, not the original: a classifier judges both, and where the true
edit is known, changes are compared (edit - reconstruction with truth - original), so that a poor reconstruction alone costs nothing.
"""

from typing import NamedTuple

from torch import Tensor

from zoo.batch import to_unit_range
from zoo.metrics.images import squared_error


def attribute_vectors(latents: Tensor, attributes: Tensor) -> Tensor:
    """Mean latent of the images with each attribute, minus the mean of those without it: (N, d) × (N, A) in {0, 1} -> (A, d).

    VAE-GAN (Larsen et al. 2016, 1512.09300, section 4.2). Summed in float64, returned as `latents`. The row of an attribute that all or
    none of the images have is NaN.
    """
    if latents.ndim != 2 or attributes.ndim != 2 or len(latents) != len(attributes):
        raise ValueError(f"latents are (N, d) and attributes (N, A), not {tuple(latents.shape)} and {tuple(attributes.shape)}")
    codes, has = latents.double(), attributes.double().T  # (N, d), (A, N)
    with_mean, without_mean = (rows @ codes / rows.sum(1, keepdim=True) for rows in (has, 1 - has))  # (A, d); 0 / 0 is NaN
    return (with_mean - without_mean).to(latents)


def classified_as(probabilities: Tensor, attribute: Tensor, wanted: Tensor) -> Tensor:
    """1 where an image's attribute is judged (above 1/2) as wanted, else 0: (B, A), (B,) int64, (B,) bool -> (B,) float32."""
    return (probabilities.gather(1, attribute[:, None])[:, 0] > 0.5).eq(wanted).float()


def attribute_preservation(after: Tensor, before: Tensor, others: Tensor) -> Tensor:
    """Share of the `others`, (B, A) bool, that are judged alike by probabilities (B, A) × 2 after and before an edit: (B,); 1 if none."""
    changed = (after > 0.5).ne(before > 0.5) & others
    return 1 - changed.sum(1) / others.sum(1).clamp_min(1)


class Changes(NamedTuple):
    """What edits changed and should have changed, of [0, 1] images, as means over values: each (B,)."""

    overlap: Tensor  # ⟨made change, true change⟩
    made: Tensor  # |made change|²
    true: Tensor  # |true change|²
    truth_mse: Tensor  # |edit - truth|², to be seen beside
    reconstruction_mse: Tensor  # |reconstruction - original|²


def change(before: Tensor, after: Tensor) -> Tensor:
    """What became of [0, 1] images, any shape in [-1, 1] -> in [-1, 1]."""
    return to_unit_range(after) - to_unit_range(before)


def nearest(made: Tensor, true: Tensor) -> Tensor:
    """Which of K right changes (any glasses are glasses) is nearest to the one that was made: (B, ...), (B, K, ...) -> (B,) int64."""
    return (true - made[:, None]).square().flatten(2).sum(2).argmin(1)


def changes(originals: Tensor, reconstructions: Tensor, edits: Tensor, truths: Tensor) -> Changes:
    """Compares made changes, edit - reconstruction, with true ones, truth - original: images (B, C, H, W) × 4."""
    made, true = change(reconstructions, edits).flatten(1), change(originals, truths).flatten(1)  # (B, D)
    overlap, made_square, true_square = ((one * other).mean(1) for one, other in ((made, true), (made, made), (true, true)))
    return Changes(overlap, made_square, true_square, squared_error(truths, edits), squared_error(originals, reconstructions))


def change_cosine(found: Changes) -> float:
    """Cosine of all made and all true changes, each strung together, so that small ones add no noise: 1 = only the right things changed."""
    scale = (found.made.double().sum() * found.true.double().sum()).sqrt()
    return (found.overlap.double().sum() / scale.clamp_min(1e-12)).item()


def change_share(found: Changes) -> float:
    """Share of the true change that was made, along it: 0 = ignored, 1 = in full, beyond 1 = exaggerated."""
    return (found.overlap.double().sum() / found.true.double().sum().clamp_min(1e-12)).item()


class Errors(NamedTuple):
    """Sums of squared differences of [0, 1] images, in the mask, where the truth differs from the original, and elsewhere: each (B,)."""

    edit_masked: Tensor  # |edit - truth|²
    change_masked: Tensor  # |original - truth|²: the edit's error had it left the image as it is
    edit_unmasked: Tensor  # |edit - truth|²
    reconstruction_unmasked: Tensor  # |reconstruction - original|²


def errors(originals: Tensor, reconstructions: Tensor, edits: Tensor, truths: Tensor) -> Errors:
    """Errors of edits against the truth, by where it differs from the original in any channel: images (B, C, H, W) uint8 × 4."""
    mask = (originals != truths).any(1, keepdim=True)  # (B, 1, H, W)
    before, plain, after, truth = (images.float() / 255 for images in (originals, reconstructions, edits, truths))

    def summed(one: Tensor, other: Tensor, where: Tensor) -> Tensor:
        return ((one - other).square() * where).flatten(1).sum(1)

    return Errors(summed(after, truth, mask), summed(before, truth, mask), summed(after, truth, ~mask), summed(plain, before, ~mask))


def masked_relative_mse(found: Errors) -> float:
    """Error where the truth differs from the original, of all images: 0 = the truth, 1 = no better than the original left as it is."""
    return _ratio(found.edit_masked, found.change_masked)


def unmasked_relative_mse(found: Errors) -> float:
    """Error where nothing should change, of all images, as a multiple of the plain reconstruction's error there: 1 = nothing changed."""
    return _ratio(found.edit_unmasked, found.reconstruction_unmasked)


def _ratio(above: Tensor, below: Tensor) -> float:
    """Σ / Σ, in float64; NaN for 0 / 0."""
    return (above.double().sum() / below.double().sum()).item()
