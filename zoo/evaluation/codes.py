"""What the codes hold, and how little they notice a change of the images that leaves their content alone.

Probes are fitted on codes of training images and scored on codes of the measured split, both in the order of the store.
"""

import torch
from torch import Generator, Tensor

from zoo.evaluation.context import Codes, EvalContext
from zoo.evaluation.descriptors import INVARIANCE_IMAGES
from zoo.evaluation.interpolations import partners_of
from zoo.metrics.disentanglement import mutual_information_gap
from zoo.metrics.probes import (
    clustering_accuracy,
    factor_r2,
    knn_accuracy,
    knn_balanced_accuracy,
    linear_probe_attributes,
    linear_probe_classes,
    reduce,
)
from zoo.models.training_config import seed_of
from zoo.nets.perturbations import PERTURBATIONS, fitting, relative_distance
from zoo.progress import busy
from zoo.runs.measurements import Measurement

CLASSES = ("linear_accuracy", "knn_accuracy", "clustering_accuracy")
ATTRIBUTES = (
    "linear_balanced_accuracy",
    "linear_average_precision",
    "knn_balanced_accuracy",
)  # means over the attributes that have both values in train and test
FACTORS = ("factor_r2", "mig")  # means over factors
TRAIN_IMAGES = 5  # codes to fit on, for each one to score on
COLOURS = 40  # key of a random stream


def representation(context: EvalContext) -> list[Measurement]:
    """Linear and nearest-neighbour probes of labels, clustering of classes, how linearly and how separately known factors are coded."""
    store = context.store
    if not context.model.can_encode or not (store.attribute_names or store.factors is not None):
        return []
    # Nobody may read labels from codes that were made with them.
    train = context.codes("train", TRAIN_IMAGES * context.count, use_attributes=False)
    test = context.codes(context.split, context.count, use_attributes=False)
    a, b, reduced = reduce(train.latents, test.latents)
    if reduced:
        context.notes.append(f"For probes, {context.model.latent_dim} latent dimensions were reduced to {a.shape[1]} principal components.")
    with busy(f"probing {len(a):,} codes"):
        scores = probe(context, a, train, b, test, reduced)
    return context.records("representation", scores)


def probe(context: EvalContext, a: Tensor, train: Codes, b: Tensor, test: Codes, reduced: bool) -> dict[str, float]:
    """The scores; `a` and `b` are the latents of `train` and `test`, or their principal components."""
    store = context.store
    scores: dict[str, float] = {}
    if store.has_classes and context.wants(*CLASSES):
        known, truth = train.attributes.argmax(1), test.attributes.argmax(1)
        classes = int(max(known.max(), truth.max())) + 1
        scores["linear_accuracy"] = linear_probe_classes(a, known, b, truth)
        scores["knn_accuracy"] = knn_accuracy(a, known, b, truth)
        scores["clustering_accuracy"] = clustering_accuracy(a, b, truth, classes, context.seed)
    elif not store.has_classes and context.wants(*ATTRIBUTES):
        linear = linear_probe_attributes(a, train.attributes, b, test.attributes)
        scores["linear_balanced_accuracy"] = linear.balanced_accuracy.nanmean().item()
        scores["linear_average_precision"] = linear.average_precision.nanmean().item()
        scores["knn_balanced_accuracy"] = knn_balanced_accuracy(a, train.attributes, b, test.attributes).nanmean().item()
    if store.factors is not None and context.wants(*FACTORS):
        factors = torch.from_numpy(store.factors)
        scores["factor_r2"] = factor_r2(a, factors[train.positions], b, factors[test.positions]).nanmean().item()
        if not reduced:  # of latents, not of their principal components
            scores["mig"] = mutual_information_gap(b, factors[test.positions]).nanmean().item()
    return scores


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
