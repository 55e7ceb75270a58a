"""How little the codes notice a change of the images that leaves their content alone."""

import torch
from torch import Generator, Tensor

from zoo.evaluation.context import EvalContext
from zoo.evaluation.descriptors import INVARIANCE_IMAGES
from zoo.evaluation.interpolations import partners_of
from zoo.metrics.relative_distance import relative_distance
from zoo.models.training_config import seed_of
from zoo.nets.perturbations import PERTURBATIONS, fitting
from zoo.runs.measurements import Measurement

COLOURS = 40  # key of a random stream


def invariance(context: EvalContext) -> list[Measurement]:
    """`distance` as the mean over all perturbations that the images allow, and each one's own, with its name as the item.

    `distance`: mean ‖f(x) - f(t(x))‖ / mean ‖f(x) - f(x̃)‖ over up to 2,000 images of the split, x̃ being another one of them, so that small
    codes gain nothing: 0 = not noticed, 1 = as far as another image. Empty if the model cannot encode. The same on all ranks.
    """
    model, count = context.model, min(INVARIANCE_IMAGES, context.count)
    if not model.can_encode:
        return []
    codes = context.codes(context.split, count)
    others = codes.latents[partners_of(count, context.seed).to(context.device)]
    generator = Generator().manual_seed(seed_of(context.seed, COLOURS))
    colours = torch.rand(count, 2 * model.image_shape[0], generator=generator).to(context.device)  # by an image's place
    scores: dict[str, float] = {}
    for name in fitting(model.image_shape):

        def encode(start: int, stop: int, name: str = name) -> Tensor:
            batch = context.batch(codes.positions[start:stop])
            return model.encode(PERTURBATIONS[name](batch.image, colours[start:stop]), batch.attributes).float()

        changed = context.rows(count, f"codes after {name}", encode)
        scores[name] = relative_distance(codes.latents.double(), changed.double(), others.double()).item()
    own = [record for name, value in scores.items() for record in context.records("invariance", {"distance": value}, item=name)]
    return [*context.records("invariance", {"distance": sum(scores.values()) / len(scores)}), *own]
