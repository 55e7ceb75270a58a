"""What must be the same for numbers to stand in one column, and the sentence that says where it is not."""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

from zoo.comparison.parts import Entry
from zoo.runs.measurements import Measurement, Quantity, measurements_of, name_of

COUNT = "N of "  # begins the facts that say of how many images a metric is
LOGGED = f"{COUNT}mse"
IMPLIED = {  # other images differ in the rest, too
    "data": ("image size", "crop", "images", "features"),
    "image size": ("images", "features"),
    "crop": ("images", "features"),
    "images": ("features",),
}
ELSEWHERE = ("_target_", "root", "cache", "image_size", "crop")  # of a source: where the data lie, and what is a fact of its own


class Facts(NamedTuple):
    """Numbers and what they rest on."""

    numbers: dict[Quantity, float]
    measured: dict[str, str]  # data, image size, split, features, N of each metric, …
    left_out: list[str]  # numbers of another N


def of_one_n(measurements: list[Measurement]) -> Facts:
    """The numbers, and of how many images they are.

    A number of images belongs to a metric and not to the prior or the attribute it is of. Of a metric that was measured with several,
    those of the N stay that the most priors or attributes have, of these the largest.
    """
    by_metric: dict[Quantity, Counter[int]] = {}  # of N: how many priors or attributes have it
    metrics = [one.quantity._replace(prior=None, item=None) for one in measurements]
    for metric, one in zip(metrics, measurements, strict=True):
        by_metric.setdefault(metric, Counter())[one.n] += 1
    chosen = {metric: max(counts, key=lambda n: (counts[n], n)) for metric, counts in by_metric.items()}
    numbers = {one.quantity: one.value for metric, one in zip(metrics, measurements, strict=True) if one.n == chosen[metric]}
    left_out = [f"{name_of(metric)} of {n:,} images" for metric, ns in by_metric.items() for n in sorted(ns) if n != chosen[metric]]
    return Facts(numbers, {f"{COUNT}{name_of(metric)}": f"{n:,}" for metric, n in chosen.items()}, left_out)


def facts_of_test(evaluation: dict[str, Any], data: dict[str, Any] | None) -> Facts:
    """The numbers of an evaluation. `data` is the node of the run's configuration, where it is known."""
    found = of_one_n(measurements_of(evaluation))
    measured, features = evaluation["measured"], evaluation["features"]
    facts = {"data": str(evaluation["data"]), "split": str(measured["split"]), "images": str(measured["images_sha256"])[:12]}
    sizes = [{"image_size": network["image_size"]} for network in features.values() if "image_size" in network]
    if data is not None or sizes:
        facts |= of_images(data or sizes[0])
    for name, network in features.items():
        facts["features" if name == "classifier" else f"features {name}"] = f"{name} {str(network.get('sha256', network))[:12]}"
    return found._replace(measured=facts | {"seed of the evaluation": str(measured["seed"])} | found.measured)


def facts_of_validation(summary: dict[str, Any], data: dict[str, Any]) -> Facts:
    """The numbers of a run's own last look at the validation split.

    The features of its numbers are the classifier of the data, whose identity only an evaluation tells.
    """
    found = of_one_n(measurements_of(summary))
    logged = {name.removeprefix("val/"): value for name, value in summary["metrics"].items()}
    numbers = {Quantity("", name): value for name, value in logged.items() if isinstance(value, int | float) and math.isfinite(value)}
    source = {key: value for key, value in (data.get("source") or {}).items() if key not in ELSEWHERE}
    if data["name"] == "folder":
        source["root"] = data.get("root")  # nothing else says which images these are
    facts = {"data": str(data["name"]), "split": "val", **of_images(data)}
    facts["images"] = ", ".join(f"{key}={value}" for key, value in source.items()) or "as published"
    facts["features"] = "the data's classifier"
    counts = {LOGGED: f"{logged['images']:,.0f}"} if "images" in logged else {}
    return found._replace(numbers=found.numbers | numbers, measured=facts | found.measured | counts)


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
    crop = {"crop": "the largest square" if data["crop"] is None else str(data["crop"])} if "crop" in data else {}
    return {"image size": f"{data.get('image_size')}×{data.get('image_size')}"} | crop


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
        counts = {fact: int(value.replace(",", "")) for fact, value in entry.measured.items() if fact.startswith(COUNT)}
        logged = counts.pop(LOGGED, 0)  # of the validation in training, whatever the evaluation's N is
        most = max(counts.values(), default=logged)
        own["N"] = f"{most:,}" if most else ""  # some metrics take fewer images whatever N is
        own["images seen"] = f"{entry.cost['images_seen']:,.0f}" if "images_seen" in entry.cost else ""
        for fact in own:
            facts.setdefault(fact, []).extend([own[fact]] if own[fact] else [])
    mixed = differences(entries)
    return {
        fact: "mixed" if fact in mixed or (len(set(values)) > 1 and fact != "N") else max(values, key=len)
        for fact, values in facts.items()
        if values
    }
