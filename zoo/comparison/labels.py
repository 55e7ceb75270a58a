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
    pretrain = config.get("pretrain")
    earlier = summary.get("pretrain")
    if not isinstance(pretrain, dict) or pretrain.get("run") is None or not isinstance(earlier, dict):
        return config
    overrides = overrides_of(str(earlier.get("command", "")))
    return config | {"pretrain": pretrain | {"run": " ".join(f"{key}={value}" for key, value in overrides.items()) or pretrain["run"]}}


def text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    return str(value)


def labels_of(rows: list[Settings]) -> list[str]:
    """What each row is called: its model and the shortest settings that tell it from the others, "vae beta=4".

    These are settings of its command (see `distinguishes`); where they do not tell two rows apart, also what else differs between them.
    """
    keys = [[key for key in row.overrides if key not in CHOSEN and distinguishes(key, row, rows)] for row in rows]
    for same in groups(range(len(rows)), lambda index: (rows[index].model, *(setting_text(rows[index], key) for key in keys[index]))):
        for key in distinguishing_settings([rows[index] for index in same]):
            for index in same:
                keys[index] += [] if key in keys[index] else [key]
    names = short_names({key for row in keys for key in row})
    labels = [" ".join([row.model, *(f"{names[key]}={label_value(row, key)}" for key in own)]) for row, own in zip(rows, keys, strict=True)]
    return [label if label not in labels[:index] else f"{label} ({labels[:index].count(label) + 1})" for index, label in enumerate(labels)]


def distinguishes(key: str, row: Settings, rows: list[Settings]) -> bool:
    """Whether a setting of its command tells a row from others of its model; one of the model also from models that have it, too.

    The only row of its model is called by what its model was told, unless all models were.
    """
    peers = [other for other in rows if other.model == row.model]
    if key.startswith(("model.", "model/")):
        peers += [other for other in rows if len(peers) == 1 or key in other.values]
    return any(value(other, key) != value(row, key) for other in peers)


def value(row: Settings, key: str) -> Any:
    """What a row has as this setting, or chose for this group; None if neither."""
    return row.values.get(key, row.overrides.get(key))


def setting_text(row: Settings, key: str) -> str:
    return f"{key}={text(value(row, key))}"


def label_value(row: Settings, key: str) -> str:
    """A value in a label: of a class its name."""
    written = text(value(row, key)) if key in row.values or key in row.overrides else ABSENT
    return written.rpartition(".")[2] if key.endswith("_target_") else written


def groups(items: Iterable[Any], key: Any) -> list[list[Any]]:
    """Items with equal keys together, in the order in which they first come."""
    found: dict[Any, list[Any]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def distinguishing_settings(rows: list[Settings]) -> list[str]:
    """Few settings that tell these rows apart, those that matter and those of the model first."""
    differ = [key for key in dict.fromkeys(key for row in rows for key in row.values) if len({setting_text(row, key) for row in rows}) > 1]
    differ.sort(key=lambda key: (not matters(key), not key.startswith("model."), key.count("."), key.endswith("_target_")))
    chosen: list[str] = []

    def kinds(keys: list[str]) -> int:
        return len({tuple(setting_text(row, key) for key in keys) for row in rows})

    while differ and kinds(chosen) < len(rows):
        best = max(differ, key=lambda key: kinds([*chosen, key]))  # the first of equals
        if kinds([*chosen, best]) == kinds(chosen):
            break
        chosen.append(best)
    return chosen


def short_names(keys: set[str]) -> dict[str, str]:
    """Each key by its last part, or by so many that it is no other's."""
    parts = {key: re.split(r"[./]", key.removesuffix("._target_").split("@")[0]) for key in keys}
    names = {}
    for key, own in parts.items():
        count = 1
        while count < len(own) and any(other[-count:] == own[-count:] for name, other in parts.items() if name != key):
            count += 1
        names[key] = ".".join(own[-count:])
    return names


def differing_of(rows: list[Settings]) -> dict[str, list[str]]:
    """The settings that differ between rows, with the value of each.

    Settings of models count where rows of the same model differ, or where a command has set them; what only repeats a shorter key (as
    model.backbone.image_size does data.image_size) does not.
    """
    keys = [key for key in dict.fromkeys(key for row in rows for key in row.values) if matters(key)]
    table: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: (not key.startswith("model."), key.count("."))):
        values = [setting(row, key) for row in rows]
        known = [(row, own) for row, own in zip(rows, values, strict=True) if row.values or key in row.overrides]
        overridden = any(key in row.overrides for row in rows)
        if key == "model.name" or (len({own for _, own in known}) == 1 and (len(known) == len(rows) or not overridden)):
            continue
        if key.startswith(("model.", "pretrain.model.")) and not overridden:
            by_model = groups(known, lambda pair: pair[0].model)
            if not any(len({own for _, own in pairs}) > 1 for pairs in by_model):
                continue
        last = key.rpartition(".")[2]
        if not any(other.rpartition(".")[2] == last and kept == values for other, kept in table.items()):
            table[key] = values
    return table


def setting(row: Settings, key: str) -> str:
    """A setting of a row; what a published row does not say was the default at its time."""
    if key in row.values:
        return text(row.values[key])
    return ABSENT if row.values else text(number(row.overrides.get(key, "default")))


def number(written: str) -> Any:
    """What stands in a command, as a number where it is one."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(written)
    return written
