"""Measurements as plain numbers, for assertions."""

from zoo.evaluation import protocol
from zoo.evaluation.context import EvalContext
from zoo.runs.measurements import Measurement, by_flat_name


def evaluate(context: EvalContext, selection: list[str] | None = None) -> dict[str, float]:
    """All numbers of the protocol, by their flat names."""
    return by_flat_name(protocol.evaluate(context, selection))


def by_metric(measurements: list[Measurement]) -> dict[str, float]:
    """The numbers of one group: "success", and "success/Smiling" where it is of an attribute."""
    return {"/".join(filter(None, (one.metric, one.item))): one.value for one in measurements}
