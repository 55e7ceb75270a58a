"""The protocol: every measurement that applies to a model, under one set of names.

A number is called `<group>/<metric>`, for samples `samples/<prior>/<metric>`; features other than the default are a part of the name
(`frechet_inception`), and so is the number of images where it is not 10,000 (`frechet@2000`; of attributes the edits each way, of
transfer the pairs each way).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from omegaconf import ListConfig

from zoo.errors import ZooError, nearest
from zoo.evaluation import attributes, interpolations, invariance, likelihood, reconstructions, representation, samples, transfer
from zoo.evaluation.context import EvalContext

FULL = 10_000  # images of the protocol; any other number is named
LEAST = 16  # images, below which nothing is measured


class Group(NamedTuple):
    """One part of the evaluation."""

    measure: Callable[[EvalContext], dict[str, float]]  # {} where it does not apply
    names: tuple[str, ...]  # the metrics it may give
    by_features: tuple[str, ...] = ()  # those that depend on the features network
    counts: dict[str, int] = {}  # at most so many images, where it is not N


COMPARISONS = ("frechet", "kernel", "precision", "recall", "density", "coverage")
GROUPS = {
    "samples": Group(samples.samples, samples.NAMES, COMPARISONS),
    "reconstructions": Group(reconstructions.reconstructions, reconstructions.NAMES, ("frechet",)),
    "interpolations": Group(
        interpolations.interpolations,
        interpolations.NAMES,
        ("frechet", "smoothness"),
        {"smoothness": interpolations.PATHS} | dict.fromkeys(interpolations.NAMES[2:], 2 * interpolations.LINE_PAIRS),
    ),
    "representation": Group(representation.representation, representation.NAMES),
    "invariance": Group(invariance.invariance, invariance.NAMES, counts=dict.fromkeys(invariance.NAMES, invariance.IMAGES)),
    "likelihood": Group(likelihood.likelihood, likelihood.NAMES, counts={likelihood.NAMES[2]: likelihood.DRAWS_IMAGES}),
    "attributes": Group(attributes.attributes, attributes.NAMES, counts=dict.fromkeys(attributes.NAMES, attributes.EDITS)),
    "transfer": Group(transfer.transfer, transfer.NAMES, counts=dict.fromkeys(transfer.EDITED, transfer.PAIRS)),
}


def evaluate(context: EvalContext, selection: list[str] | None = None) -> dict[str, float]:
    """All numbers of a model; see `by_group`."""
    return {name: value for numbers in by_group(context, selection) for name, value in numbers.items()}


def by_group(context: EvalContext, selection: list[str] | None = None) -> Iterator[dict[str, float]]:
    """Measures a model group by group, the same on all ranks. A number that is not defined (nothing varies) is left out, with a note.

    Args:
        context: What is measured; callers hold `quiet(model)`.
        selection: Names of groups or metrics (see `selected`); None = everything that applies.

    Raises:
        ZooError: Fewer images than a metric needs, or a model that has diverged.
    """
    check_count(context)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for name, group in GROUPS.items():
            context.wanted = None if selection is None or name in selection else set(selection)
            if context.wants(*group.names):
                found = {full_name(context, name, metric): value for metric, value in group.measure(context).items()}
                context.notes += [f"{metric} is not defined here." for metric, value in found.items() if not math.isfinite(value)]
                yield {metric: value for metric, value in found.items() if math.isfinite(value)}


def check_count(context: EvalContext) -> None:
    """Raises ZooError if there are too few images for neighbours, clusters and mixtures."""
    if context.count < LEAST:
        raise ZooError(
            f"{context.count} images are too few: precision, recall, mixtures and nearest neighbours need at least {LEAST}; "
            f"raise samples, or choose a split with more images than '{context.split}' has."
        )


def full_name(context: EvalContext, group: str, metric: str) -> str:
    """`group/metric`, with the features' name if it is not the default one, and with N if it is not 10,000."""
    part = GROUPS[group]
    names = metric.split("/")  # "frechet", "gaussian/frechet" or "success/Smiling"
    network = f"_{context.features.name}" if context.features is not None and names[-1] in part.by_features else ""
    count = min(context.count, *(part.counts.get(name, context.count) for name in names))
    return f"{group}/{metric}{network.removesuffix('_classifier')}" + (f"@{count}" if count != FULL else "")


def selected(value: Any, option: str = "metrics") -> list[str] | None:
    """A setting that names groups and metrics -> the list of them; None, for everything, stays. Raises ZooError for an unknown name."""
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    valid = sorted({*GROUPS, *(name for group in GROUPS.values() for name in group.names)})
    if not isinstance(names, list | ListConfig) or not names:
        raise ZooError(f"{option}={value} must be a list of names, like [samples,mse]; valid: {', '.join(valid)}.")
    for name in names:
        if name not in valid:
            raise ZooError(f"{option}={name} is not known; {nearest(str(name), valid)}")
    return list(names)
