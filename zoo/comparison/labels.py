"""What tells runs apart: which settings matter, what a row of runs is called, and the settings that differ between rows."""

import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

# Settings that change no number but how long it takes, the seed, and paths.
PRIVATE = (
    *("logger", "hydra", "data.cache", "data.storage", "trainer.devices", "trainer.accelerator", "trainer.num_nodes", "seed=", "resume="),
    *("val_every_images", "checkpoint_every_images", "keep_last_k", "log_every_images", "probe_every_images", "evaluation."),
)
ROOTS = ("data.root=", "data.source.root=")  # where the data lie; what is compared is what the images are
ABSENT = "–"
CHOSEN = ("model", "data")  # groups that a row's name begins with or that all rows share


class Settings(NamedTuple):
    """The settings of a row."""

    model: str
    values: dict[str, Any]  # "optimizer.lr" -> 0.002; of a published row only what its command says
    overrides: dict[str, str]  # those of its command: "model.beta" -> "4", "model/flow" -> "residual"

    def text(self, key: str) -> str:
        """What it has as this setting, or chose for this group, as one would type it; null if neither."""
        return text(self.values.get(key, self.overrides.get(key)))


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """A config by dotted key; lists are values."""
    if not isinstance(node, dict) or not node:
        return {prefix.removesuffix("."): node} if prefix and node != {} else {}
    return {key: value for name, child in node.items() for key, value in flat(child, f"{prefix}{name}.").items()}


def matters(key: str) -> bool:
    """Whether a setting can change a number."""
    return not f"{key}=".startswith((*PRIVATE, *ROOTS))


def overrides_of(command: str) -> dict[str, str]:
    """The overrides of a training's command that matter."""
    try:
        words = shlex.split(command.partition("; then resume=")[0])[3:]
    except ValueError:
        words = []
    pairs = (word.lstrip("+").partition("=") for word in words if "=" in word)
    return {key: value.strip("'\"") for key, _, value in pairs if matters(key)}


def settings_of(config: dict[str, Any], command: str) -> Settings:
    """Those of a run."""
    overrides = overrides_of(command)
    overrides.pop("pretrain.run", None)  # a path; what lies there is told by `described`
    return Settings(str(config["model"]["name"]), flat(config), overrides)


def described(config: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what the run was started from told by how that was trained, not by its path."""
    pretrain, earlier = config.get("pretrain"), summary.get("pretrain")
    if not isinstance(pretrain, dict) or pretrain.get("run") is None or not isinstance(earlier, dict):
        return config
    overrides = overrides_of(str(earlier.get("command", "")))
    return config | {"pretrain": pretrain | {"run": " ".join(f"{key}={value}" for key, value in overrides.items()) or pretrain["run"]}}


def text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    return f"{value:_}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def groups(items: Iterable[Any], key: Any) -> list[list[Any]]:
    """Items with equal keys together, in the order in which they first come."""
    found: dict[Any, list[Any]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def labels_of(rows: list[Settings]) -> list[str]:
    """What each row is called: its model and the shortest settings that tell it from the others, "vae beta=4".

    These are settings of its command (see `distinguishes`); where they do not tell two rows apart, also what else differs between them.
    """
    keys = [[key for key in row.overrides if key not in CHOSEN and distinguishes(key, row, rows)] for row in rows]
    for same in groups(range(len(rows)), lambda index: (rows[index].model, *((key, rows[index].text(key)) for key in keys[index]))):
        for key in distinguishing_settings([rows[index] for index in same]):
            for index in same:
                keys[index] += [] if key in keys[index] else [key]
    names = short_names({key for row in keys for key in row})
    labels: list[str] = []
    for row, own in zip(rows, keys, strict=True):
        # Of a class its name; what a row does not know as a setting is absent.
        texts = {key: row.text(key) if key in row.values or key in row.overrides else ABSENT for key in own}
        parts = [f"{names[key]}={value.rpartition('.')[2] if key.endswith('_target_') else value}" for key, value in texts.items()]
        labels.append(" ".join([row.model, *parts]))
    return [label if label not in labels[:index] else f"{label} ({labels[:index].count(label) + 1})" for index, label in enumerate(labels)]


def distinguishes(key: str, row: Settings, rows: list[Settings]) -> bool:
    """Whether a setting of its command tells a row from others of its model; one of the model also from models that have it, too.

    The only row of its model is called by what its model was told, unless all models were.
    """
    peers = [other for other in rows if other.model == row.model]
    if key.startswith(("model.", "model/")):
        peers += [other for other in rows if len(peers) == 1 or key in other.values]
    return any(other.text(key) != row.text(key) for other in peers)


def distinguishing_settings(rows: list[Settings]) -> list[str]:
    """Few settings that tell these rows apart, those that matter and those of the model first."""
    differ = [key for key in dict.fromkeys(key for row in rows for key in row.values) if len({row.text(key) for row in rows}) > 1]
    differ.sort(key=lambda key: (not matters(key), not key.startswith("model."), key.count("."), key.endswith("_target_")))
    chosen: list[str] = []

    def kinds(keys: list[str]) -> int:
        return len({tuple(map(row.text, keys)) for row in rows})

    while differ and kinds(chosen) < len(rows):
        best = max(differ, key=lambda key: kinds([*chosen, key]))  # the first of equals
        if kinds([*chosen, best]) == kinds(chosen):
            break
        chosen.append(best)
    return chosen


def short_names(keys: set[str]) -> dict[str, str]:
    """Each key by its last part, or by so many that it is no other's."""
    parts = {key: re.split(r"[./]", key.removesuffix("._target_").split("@")[0]) for key in keys}
    ends = {key: [".".join(own[-count:]) for count in range(1, len(own) + 1)] for key, own in parts.items()}
    others = {key: {end for other in keys - {key} for end in ends[other]} for key in keys}
    return {key: next((end for end in own if end not in others[key]), own[-1]) for key, own in ends.items()}


def differing_of(rows: list[Settings]) -> dict[str, list[str]]:
    """The settings that differ between rows, with the value of each.

    Settings of models count where rows of the same model differ, or where a command has set them; what only repeats a shorter key (as
    model.backbone.image_size does data.image_size) does not.
    """
    keys = [key for key in dict.fromkeys(key for row in rows for key in row.values) if matters(key) and key != "model.name"]
    table: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: (not key.startswith("model."), key.count("."))):
        values = [setting(row, key) for row in rows]
        known = [(row.model, own) for row, own in zip(rows, values, strict=True) if row.values or key in row.overrides]
        overridden = any(key in row.overrides for row in rows)
        if len({own for _, own in known}) == 1 and (len(known) == len(rows) or not overridden):
            continue
        of_model = key.startswith(("model.", "pretrain.model.")) and not overridden
        if of_model and len(set(known)) == len({model for model, _ in known}):  # one value for each model
            continue
        last = key.rpartition(".")[2]
        if not any(other.rpartition(".")[2] == last and own == values for other, own in table.items()):
            table[key] = values
    return table


def setting(row: Settings, key: str) -> str:
    """A setting of a row; what a published row does not say was the default at its time."""
    if row.values:
        return row.text(key) if key in row.values else ABSENT
    for kind in (int, float):  # what stands in a command, as a number where it is one
        with suppress(ValueError, KeyError):
            return text(kind(row.overrides[key]))
    return row.overrides.get(key, "default")
