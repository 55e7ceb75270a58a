"""What must be the same for numbers to stand in one column, and the sentence that says where it is not."""

import math
import re
from typing import Any

from zoo.comparison.parts import Entry
from zoo.runs.measurements import Measurement, Quantity, measurements_of, name_of

Numbers = dict[Quantity, float]
COUNT = "N of "  # begins the facts that say of how many images a metric is
IMPLIED = {  # other images differ in the rest, too
    "data": ("image size", "crop", "images", "features"),
    "image size": ("images", "features"),
    "crop": ("images", "features"),
    "images": ("features",),
}
ELSEWHERE = ("_target_", "root", "cache", "image_size", "crop")  # of a source: where the data lie, and what is a fact of its own


def of_one_n(measurements: list[Measurement]) -> tuple[Numbers, dict[str, str], list[str]]:
    """The numbers, the number of images of each metric, as facts, and what was left out.

    A number of images belongs to a metric and not to the prior or the attribute it is of. Of a metric that was measured with several,
    those of the N stay that the most priors or attributes have, of these the largest.
    """
    found: dict[Quantity, dict[int, int]] = {}  # metric -> N -> how many priors or attributes have it
    for one in measurements:
        by_n = found.setdefault(_metric(one.quantity), {})
        by_n[one.n] = by_n.get(one.n, 0) + 1
    kept = {metric: max(by_n, key=lambda n: (by_n[n], n)) for metric, by_n in found.items()}
    numbers = {one.quantity: one.value for one in measurements if one.n == kept[_metric(one.quantity)]}
    left_out = [f"{name_of(metric)} of {n:,} images" for metric, by_n in found.items() for n in sorted(by_n) if n != kept[metric]]
    return numbers, {f"{COUNT}{name_of(metric)}": f"{n:,}" for metric, n in kept.items()}, left_out


def _metric(quantity: Quantity) -> Quantity:
    return quantity._replace(prior=None, item=None)


def facts_of_test(evaluation: dict[str, Any], data: dict[str, Any] | None) -> tuple[Numbers, dict[str, str], list[str]]:
    """The numbers of an evaluation, what they rest on, and what was left out (see `of_one_n`).

    `data` is the node of the run's configuration, where it is known.
    """
    numbers, counts, left_out = of_one_n(measurements_of(evaluation))
    measured, features = evaluation["measured"], evaluation["features"]
    facts = {"data": str(evaluation["data"]), "split": str(measured["split"]), "images": str(measured["images_sha256"])[:12]}
    sizes = [network["image_size"] for network in features.values() if "image_size" in network]
    if data is not None:
        facts |= of_images(data)
    elif sizes:
        facts["image size"] = size(sizes[0])
    for name, network in features.items():
        facts["features" if name == "classifier" else f"features {name}"] = f"{name} {str(network.get('sha256', network))[:12]}"
    return numbers, facts | {"seed of the evaluation": str(measured["seed"])} | counts, left_out


def facts_of_validation(summary: dict[str, Any], data: dict[str, Any]) -> tuple[Numbers, dict[str, str], list[str]]:
    """The numbers of a run's own last look at the validation split, what they rest on, and what was left out (see `of_one_n`).

    The features of its numbers are the classifier of the data, whose identity only an evaluation tells.
    """
    numbers, counts, left_out = of_one_n(measurements_of(summary))
    logged = {name.removeprefix("val/"): value for name, value in summary["metrics"].items()}
    numbers |= {Quantity("", name): value for name, value in logged.items() if isinstance(value, int | float) and math.isfinite(value)}
    source = {key: value for key, value in (data.get("source") or {}).items() if key not in ELSEWHERE}
    if data["name"] == "folder":
        source["root"] = data.get("root")  # nothing else says which images these are
    facts = {"data": str(data["name"]), "split": "val", **of_images(data)}
    facts["images"] = ", ".join(f"{key}={value}" for key, value in source.items()) or "as published"
    facts["features"] = "the data's classifier"
    counts |= {f"{COUNT}mse": f"{logged['images']:,.0f}"} if "images" in logged else {}
    return numbers, facts | counts, left_out


def total_cost(training: dict[str, Any], evaluation: dict[str, Any]) -> dict[str, Any]:
    """What a run cost: what summary.json says of training, and cost.json of drawing samples.

    Images per second are those over all stages, as the hours are; older summaries tell those of the last one. The machine is that of
    training; where an older summary does not tell it, that of the evaluation.
    """
    costs = evaluation | training
    hours = training.get("train_hours") or (training.get("device_hours") or 0) / (training.get("devices") or 1)
    if hours and "images_seen" in training:
        costs["images_per_second"] = training["images_seen"] / hours / 3600
    machine = costs.get("machine") or costs.get("sampling/machine")
    return costs | ({"machine": machine} if machine else {})


def of_images(data: dict[str, Any]) -> dict[str, str]:
    """Size and, where it is a setting, crop of a `data` node."""
    facts = {"image size": size(data.get("image_size"))}
    if "crop" in data:
        facts["crop"] = "the largest square" if data["crop"] is None else str(data["crop"])
    return facts


def size(pixels: Any) -> str:
    return f"{pixels}×{pixels}"


def differences(entries: list[Entry]) -> dict[str, str]:
    """What the numbers of these runs rest on that is not the same for all that tell it: fact -> "64×64 in a, b and 32×32 in c"."""
    found: dict[str, str] = {}
    for fact in dict.fromkeys(fact for entry in entries for fact in entry.measured):
        values = dict.fromkeys(entry.measured[fact] for entry in entries if fact in entry.measured)
        if len(values) > 1:
            by_value = {value: [entry.name for entry in entries if entry.measured.get(fact) == value] for value in values}
            name = "N" if fact.startswith(COUNT) else fact
            found.setdefault(name, " and ".join(f"{value} in {some(names)}" for value, names in by_value.items()))
    return {fact: what for fact, what in found.items() if not any(fact in IMPLIED.get(other, ()) for other in found)}


def some(names: list[str], most: int = 3) -> str:
    """Up to three different names, and how many there are beside them."""
    names = list(dict.fromkeys(names))
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def describe_differences(found: dict[str, str]) -> str:
    """ "N is 2,000 in a and 10,000 in b; …" """
    return "; ".join(f"{re.sub(r'^images$', 'the set of images', fact)} is {what}" for fact, what in found.items())


def protocol_of(entries: list[Entry]) -> dict[str, str]:
    """What is the same for all; "mixed" where it is not."""
    facts: dict[str, list[str]] = {}
    for entry in entries:
        own = {fact: value for fact, value in entry.measured.items() if not fact.startswith(COUNT)}
        counts = [int(value.replace(",", "")) for fact, value in entry.measured.items() if fact.startswith(COUNT)]
        own["N"] = f"{max(counts):,}" if counts else ""  # some metrics take fewer images whatever N is
        own["images seen"] = f"{entry.cost['images_seen']:,.0f}" if "images_seen" in entry.cost else ""
        for fact, value in own.items():
            facts.setdefault(fact, []).append(value)
    mixed = differences(entries)
    same = {fact: list(dict.fromkeys(filter(None, values))) for fact, values in facts.items()}
    return {
        fact: "mixed" if fact in mixed or (len(values) > 1 and fact != "N") else max(values, key=len)
        for fact, values in same.items()
        if values
    }
