"""Likelihood in bits per dimension, where a method defines one.

Measured is x = v/127.5 - 1 + U(0, 2/255); see `zoo.losses.bits_per_dim`.
"""

import math

import torch
from torch import Tensor

from zoo.evaluation.context import EvalContext
from zoo.evaluation.descriptors import DRAWS, DRAWS_IMAGES
from zoo.losses import LEVEL, bits_per_dim
from zoo.runs.measurements import Measurement

EXACT, ELBO, WEIGHTED = "bits_per_dim", "elbo_bits_per_dim", f"iw{DRAWS}_bits_per_dim"
DEQUANTISE = 30  # key of a random stream


def likelihood(context: EvalContext) -> list[Measurement]:
    """The ELBO of all images with one draw each, and the importance-weighted bound (IWAE, 1509.00519) with 64 draws of 1,000 images.

    A method that knows log p(x) exactly gives `bits_per_dim` alone.
    """
    exact = draws_of(context, 2, 2)
    if exact is None:
        return []
    dimensions, originals = math.prod(context.model.image_shape), context.store.original_values
    scores: dict[str, float] = {}
    single = EXACT if exact.shape[1] == 1 else ELBO
    if context.wants(single) and (weights := draws_of(context, 1, context.count)) is not None:
        scores[single] = bits_per_dim(-weights, dimensions, originals=originals).mean().item()
    if exact.shape[1] > 1 and context.wants(WEIGHTED):
        weights = draws_of(context, DRAWS, min(DRAWS_IMAGES, context.count))
        assert weights is not None
        scores[WEIGHTED] = bits_per_dim(math.log(DRAWS) - torch.logsumexp(weights, 1), dimensions, originals=originals).mean().item()
    return context.records("likelihood", scores)


def draws_of(context: EvalContext, draws: int, count: int) -> Tensor | None:
    """`Autoencoder.log_weights` of `count` dequantised images, float64: (count, draws), (count, 1) if exact; None if not defined."""
    model, positions = context.model, context.positions(context.split, count)

    def weigh(start: int, stop: int) -> Tensor:
        rows = stop - start
        model.set_batch_rng((context.seed, DEQUANTISE, draws, start), 0, rows, rows)
        image = context.batch(positions[start:stop]).image
        weights = model.log_weights(image + model.uniform(*image.shape) * LEVEL, draws)
        return image.new_empty(rows, 0) if weights is None else weights.double()

    found = context.rows(len(positions), f"likelihood, {draws} draws", weigh, size=max(1, 512 // draws))
    return found if found.numel() else None
