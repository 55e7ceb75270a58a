"""How good the images between two images are."""

import torch
from torch import Tensor

from zoo.evaluation.context import EvalContext, quantised
from zoo.evaluation.descriptors import LINE_IMAGES, PATHS
from zoo.metrics.interpolations import mean_distance_and_smoothness, path_smoothness
from zoo.models.training_config import seed_of
from zoo.runs.measurements import Measurement

LINES = ("mean_distance", "line_smoothness", "line_smoothness_unbiased", "line_undefined")
STEPS = 11  # of paths in feature space
LINE_STEPS = 16  # ACAI, 1807.07543, section 3.2
PAIRS = 20  # key of a random stream


def interpolations(context: EvalContext) -> list[Measurement]:
    """The Fréchet distance of N midpoints to the split ("Interp." of RAE, 1903.12436, table 1), the mean of `path_smoothness` over whole
    interpolations, and ACAI's numbers on lines."""
    model, features = context.model, context.features
    if not model.can_encode:
        return []
    scores: dict[str, float] = {}
    if features is not None and context.wants("frechet"):
        codes, partners = pairs(context, context.count)

        def middle(start: int, stop: int) -> Tensor:
            return features(quantised(model.decode(torch.lerp(codes[start:stop], partners[start:stop], 0.5))))

        scores["frechet"] = context.frechet(context.rows(len(codes), "midpoints", middle))
    if features is not None and context.wants("smoothness"):
        first, second = pairs(context, min(PATHS, context.count))

        def walk(start: int, stop: int) -> Tensor:
            images = model.interpolate(first[start:stop], second[start:stop], STEPS)  # (P, STEPS, C, H, W)
            return path_smoothness(features(quantised(images.flatten(0, 1))).unflatten(0, (-1, STEPS)))

        scores["smoothness"] = context.rows(len(first), "interpolations", walk, size=16).nanmean().item()
    if context.store.manifest["name"] == "lines" and context.wants(*LINES):
        scores |= line_scores(context)
    return context.records("interpolations", scores)


def pairs(context: EvalContext, count: int) -> tuple[Tensor, Tensor]:
    """Codes of `count` images and of their partners."""
    codes = context.codes(context.split, count).latents
    return codes, codes[partners_of(count, context.seed).to(codes.device)]


def partners_of(count: int, seed: int) -> Tensor:
    """Who is interpolated with whom: a random cycle through all images, so nobody meets themselves. (N,) int64."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, PAIRS)))
    partners = torch.empty(count, dtype=torch.int64)
    partners[order] = order.roll(1)
    return partners


def line_scores(context: EvalContext) -> dict[str, float]:
    """ACAI's mean distance and smoothness: 512 images make 256 pairs, first half with second half."""
    codes = context.codes(context.split, min(LINE_IMAGES, context.count)).latents
    half = len(codes) // 2
    first, second = codes[:half], codes[half : 2 * half]

    def walk(start: int, stop: int) -> Tensor:
        return context.model.interpolate(first[start:stop], second[start:stop], LINE_STEPS).float()

    found = mean_distance_and_smoothness(context.rows(len(second), "interpolations of lines", walk, size=16))
    return dict(zip(LINES, found, strict=True))
