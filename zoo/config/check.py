"""From what was typed, or stands in a file, to typed settings; one sentence for the first value that does not fit."""

from typing import Any, TypeVar, overload

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from zoo.config.schema import Node, TrainSettings
from zoo.errors import ZooError, nearest

Settings = TypeVar("Settings", bound=Node)
KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text", "array": "a list"}
BOUNDS = {"minimum": "of at least", "exclusiveMinimum": "above", "exclusiveMaximum": "and below"}

NO_DATA_ROOT = (
    "The setting data.root has no default; give data.root=DIR, the folder that holds the data set, or set $ZOO_DATA (conf/paths)."
)
USED_UP = ("paths", "trusted")  # what other settings refer to; what the command follows (zoo.config.instantiate.take_trusted)


@overload
def check(config: DictConfig | dict[str, Any]) -> TrainSettings: ...
@overload
def check(config: DictConfig | dict[str, Any], kind: type[Settings]) -> Settings: ...
def check(config: DictConfig | dict[str, Any], kind: type[Node] = TrainSettings) -> Node:
    """Typed settings of a composed configuration, or of plain data.

    Raises:
        ZooError: A value has another type or lies outside of its range, or a setting is missing or unknown.
    """
    plain = {key: plain_value(config[key]) for key in map(str, config) if key not in USED_UP}
    if str((plain.get("data") or {}).get("root", "")).startswith("???"):  # what an interpolation makes of a paths.data that is missing
        raise ZooError(NO_DATA_ROOT)
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        raise ZooError(error_message(error.errors()[0], kind)) from None


def plain_value(value: Any) -> Any:
    """A part of a configuration as plain data, interpolations followed."""
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def error_message(error: Any, kind: type[Node]) -> str:
    """What is wrong with one setting, from pydantic's description of it."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    schema = kind.model_json_schema()
    node, names, null = schema, [], ""
    for name in error["loc"]:
        if name not in node.get("properties", {}):
            break  # what follows is the member of a union
        names.append(name)
        node = node["properties"][name]
        null = ", or null" if {"type": "null"} in node.get("anyOf", ()) else ""
        node = next((choice for choice in node.get("anyOf", ()) if choice.get("type") != "null"), node)
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    key = ".".join(names)
    if error["type"] == "extra_forbidden":
        unknown = ".".join(map(str, error["loc"]))
        return f"There is no setting '{unknown}'; {nearest(unknown, ['.'.join([*names, valid]) for valid in node['properties']])}"
    if error["type"] == "missing":
        return f"The setting {key} is missing; take the configuration as a run has written it."
    if choices := node.get("enum", [node["const"]] if "const" in node else []):
        return f"{key}={error['input']} is not known; use {one_of(choices)}{null}."
    bounds = (f"{words} {node[bound]:g}" for bound, words in BOUNDS.items() if bound in node)
    return f"{key}={error['input']} must be {' '.join([KINDS.get(node.get('type', ''), 'a group of settings'), *bounds])}."


def one_of(choices: list[str]) -> str:
    """ "a, b or c"."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
