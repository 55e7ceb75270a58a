"""What the codes hold: fitted on codes of training images, scored on codes of the measured split, both in the order of the store."""

import torch
from torch import Tensor

from zoo.evaluation.context import Codes, EvalContext
from zoo.metrics.clustering import clustering_accuracy
from zoo.metrics.disentanglement import mutual_information_gap
from zoo.metrics.probes import factor_r2, knn_accuracy, knn_balanced_accuracy, linear_probe_attributes, linear_probe_classes, reduce
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
