"""A measurement as a record, its JSON, and the one place where records get flat names. Nothing here imports torch."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

FULL_N = 10_000  # images of the protocol; a flat name tells any other number
DEFAULT_FEATURES = "classifier"  # a flat name tells any other network


class Quantity(NamedTuple):
    """What a number is of, whatever it was measured on."""

    group: str  # "samples"; of numbers that training logs "", of what training cost "cost"
    metric: str  # "frechet"
    features: str | None = None  # the network whose features are compared, or which judges: "classifier" or "inception"
    prior: str | None = None  # that samples are drawn from
    item: str | None = None  # the attribute ("Smiling") or the perturbation ("hflip") that the value is of; None = the mean over them


@dataclass(frozen=True)
class Measurement:
    """One number of the protocol. The fields of a `Quantity`, and:"""

    group: str
    metric: str
    value: float
    split: str  # "test", "val" or "train"
    n: int  # images; of attributes the edits each way, of transfer the pairs each way
    prior: str | None = None
    features: str | None = None
    item: str | None = None

    @property
    def quantity(self) -> Quantity:
        return Quantity(self.group, self.metric, self.features, self.prior, self.item)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the fields that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, record: Any) -> "Measurement":
        """Raises ValueError if this is not what `to_dict` gives."""
        kinds = {"value": int | float, "n": int}
        known = {field.name for field in fields(cls)}
        if not isinstance(record, dict) or not {"group", "metric", "value", "split", "n"} <= record.keys() <= known:
            raise ValueError(f"{record} is no measurement")
        if not all(isinstance(value, kinds.get(name, str)) for name, value in record.items()) or not math.isfinite(record["value"]):
            raise ValueError(f"{record} is no measurement")
        return cls(**record)


def name_of(quantity: Quantity) -> str:
    """ "samples/normal/frechet", "reconstructions/frechet_inception", "attributes/success/Smiling" or "invariance/hflip/distance"."""
    suffix = "" if quantity.features in (None, DEFAULT_FEATURES) else f"_{quantity.features}"
    metric = quantity.metric + suffix
    parts = (quantity.item, metric) if quantity.group == "invariance" else (quantity.prior, metric, quantity.item)
    return "/".join(part for part in (quantity.group, *parts) if part)


def flat_name(measurement: Measurement) -> str:
    """What a measurement is called in metrics.csv, W&B and TensorBoard: "val/samples/normal/frechet@2000"; no "@N" where N is 10,000."""
    start = "val/" if measurement.split == "val" else ""
    return start + name_of(measurement.quantity) + ("" if measurement.n == FULL_N else f"@{measurement.n}")


def by_flat_name(measurements: Iterable[Measurement]) -> dict[str, float]:
    """The values by their flat names."""
    return {flat_name(measurement): measurement.value for measurement in measurements}


def measurements_of(content: dict[str, Any]) -> list[Measurement]:
    """The records of summary.json, evaluation.json or a published row. Raises ValueError if they are missing or damaged."""
    return measurements_from(content.get("measurements"))


def measurements_from(records: Any) -> list[Measurement]:
    """Records as they stand in JSON. Raises ValueError if these are none."""
    if not isinstance(records, list):
        raise ValueError("there are no measurements")
    return [Measurement.from_dict(record) for record in records]


def json_of_records(content: Any, indent: int = 2) -> str:
    """Indented JSON, with one line for each record."""
    text = json.dumps(content, indent=indent) + "\n"
    return re.sub(r'\{\s+"group": [^{}]*\}', lambda found: re.sub(r"\n\s*", " ", found[0]), text)
