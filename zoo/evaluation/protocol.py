"""The protocol: every measurement that applies to a model, as records."""

import math
from collections.abc import Callable, Iterator

import torch

from zoo.errors import ZooError
from zoo.evaluation.attributes import attributes
from zoo.evaluation.codes import invariance, representation
from zoo.evaluation.context import EvalContext
from zoo.evaluation.descriptors import METRICS
from zoo.evaluation.interpolations import interpolations
from zoo.evaluation.likelihood import likelihood
from zoo.evaluation.samples import reconstructions, samples
from zoo.evaluation.transfer import transfer
from zoo.runs.measurements import Measurement, flat_name

LEAST = 16  # images, below which nothing is measured

# Each gives [] where it does not apply; its metrics are those of `METRICS`.
GROUPS: dict[str, Callable[[EvalContext], list[Measurement]]] = {
    "samples": samples,
    "reconstructions": reconstructions,
    "interpolations": interpolations,
    "representation": representation,
    "invariance": invariance,
    "likelihood": likelihood,
    "attributes": attributes,
    "transfer": transfer,
}


def evaluate(context: EvalContext, selection: list[str] | None = None) -> list[Measurement]:
    """All measurements of a model; see `by_group`."""
    return [measurement for found in by_group(context, selection) for measurement in found]


def by_group(context: EvalContext, selection: list[str] | None = None) -> Iterator[list[Measurement]]:
    """Measures a model group by group, the same on all ranks. A number that is not defined (nothing varies) is left out, with a note.

    Args:
        context: What is measured; callers hold `evaluation_mode(model)`.
        selection: Names of groups or metrics (see `selected`); None = everything that applies.

    Raises:
        ZooError: Fewer images than a metric needs, or a model that has diverged.
    """
    check_count(context)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for group, measure in GROUPS.items():
            context.wanted = None if selection is None or group in selection else set(selection)
            if context.wants(*METRICS[group]):
                found = measure(context)
                undefined = [measurement for measurement in found if not math.isfinite(measurement.value)]
                context.notes += [f"{flat_name(one)} is not defined here." for one in undefined]
                yield [measurement for measurement in found if math.isfinite(measurement.value)]


def check_count(context: EvalContext) -> None:
    """Raises ZooError if there are too few images for neighbours, clusters and mixtures."""
    if context.count < LEAST:
        raise ZooError(
            f"{context.count} images are too few: precision, recall, mixtures and nearest neighbours need at least {LEAST}; "
            f"raise samples, or choose a split with more images than '{context.split}' has."
        )
