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
ATTRIBUTES = ("linear_balanced_accuracy", "linear_average_precision", "knn_balanced_accuracy")  # means over attributes
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
        scores |= class_scores(a, train.attributes.argmax(1), b, test.attributes.argmax(1), context.seed)
    elif not store.has_classes and context.wants(*ATTRIBUTES):
        scores |= attribute_scores(a, train.attributes, b, test.attributes)
    if store.factors is not None and context.wants(*FACTORS):
        known = torch.from_numpy(store.factors)
        scores["factor_r2"] = factor_r2(a, known[train.positions], b, known[test.positions]).nanmean().item()
        if not reduced:  # of latents, not of their principal components
            scores["mig"] = mutual_information_gap(b, known[test.positions]).nanmean().item()
    return scores


def class_scores(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, seed: int) -> dict[str, float]:
    """Accuracies on test: of a linear probe, of k nearest neighbours, of clusters matched to classes."""
    clusters = int(max(train_labels.max(), test_labels.max())) + 1
    return {
        "linear_accuracy": linear_probe_classes(train, train_labels, test, test_labels),
        "knn_accuracy": knn_accuracy(train, train_labels, test, test_labels),
        "clustering_accuracy": clustering_accuracy(train, test, test_labels, clusters, seed),
    }


def attribute_scores(train: Tensor, train_attributes: Tensor, test: Tensor, test_attributes: Tensor) -> dict[str, float]:
    """Means over the attributes that have both values in train and test."""
    probe = linear_probe_attributes(train, train_attributes, test, test_attributes)
    return {
        "linear_balanced_accuracy": probe.balanced_accuracy.nanmean().item(),
        "linear_average_precision": probe.average_precision.nanmean().item(),
        "knn_balanced_accuracy": knn_balanced_accuracy(train, train_attributes, test, test_attributes).nanmean().item(),
    }
