"""Reading configurations: where conf/ lies, what may be instantiated, and sentences for what does not fit."""

import inspect
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from zoo.errors import ZooError, nearest

ALLOWED = ("zoo.", "torch.optim.", "torch.nn.")
OF_LIGHTNING = ("pytorch_lightning.callbacks.", "pytorch_lightning.loggers.")  # in a run's own groups of these names only
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what it prints about a class that is not there stands in our sentence
_trusted: set[str] = set()  # further packages, modules or classes, in this process


def conf_dir() -> Path:
    """The folder of the configuration groups: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def build(config: Any, **arguments: Any) -> Any:
    """Instantiates a config node, if every `_target_` in it is a class of the zoo, torch.nn or torch.optim. Raises ZooError otherwise."""
    return build_checked(config, (), arguments)


def build_checked(config: Any, also: tuple[str, ...], arguments: dict[str, Any]) -> Any:
    """The same, where classes whose full names begin as in `also` may be instantiated, too."""
    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    try:
        plain = json.loads(json.dumps(plain))  # what is checked is what is built: Hydra would look into tuples, too
    except (TypeError, ValueError) as error:
        raise ZooError(f"The configuration holds something that is not plain data ({error}).") from None
    check_node(plain, also)
    try:
        return instantiate(plain, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ZooError):
            raise error.__cause__ from None
        if sentence := unknown_argument(error):
            raise ZooError(sentence) from None
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise ZooError(f"A package is not installed: {' '.join(str(error.__cause__).split())}") from None
        reason = f" ({error.__cause__})" if error.__cause__ else ""
        raise ZooError(f"The configuration does not fit: {str(error).splitlines()[0]}{reason}.") from error


def build_group(
    group: str, nodes: dict[str, Any], kind: type, more: Callable[[str, type, dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The objects of a group whose nodes are {name: class and arguments}; a node that is null is left out.

    Args:
        group: The group's name, "callbacks" or "logger".
        nodes: Those of the settings.
        kind: What each must be, a class of pytorch_lightning.
        more: From a name, a class and its node to further arguments, which go over those of the node.

    Raises:
        ZooError: A node names no class, or one that is no `kind`, may not be instantiated, or does not take these arguments.
    """
    made = {}
    for name, node in nodes.items():
        if node is None:
            continue
        target = node.get("_target_") if isinstance(node, dict) else None
        where = f"{group}.{name}"
        if target is None:
            own = f"+{where}._target_=my_package.My{kind.__name__}"
            raise ZooError(f"{where} names no class; give {own}, or choose one of {group}=….")
        if str(target).startswith("lightning.pytorch."):
            right = target.replace("lightning.pytorch", "pytorch_lightning", 1)
            raise ZooError(f"{where}._target_={target} is of the package lightning; write {right}.")
        check_target(target, OF_LIGHTNING)
        found = get_class(target)
        if not issubclass(found, kind):
            raise ZooError(f"{where}._target_={target} is no {kind.__name__} of pytorch_lightning.")
        made[name] = build_checked(node | more(name, found, node), OF_LIGHTNING, {})
    return made


def unknown_argument(error: InstantiationException) -> str:
    """The sentence for an argument that a class does not take, with the nearest that it takes; "" for another error."""
    called, unknown = re.search(r"target '([\w.]+)'", str(error)), re.search(r"keyword argument '(\w+)'", str(error.__cause__))
    if not called or not unknown:
        return ""
    kinds: Any = get_class(called[1]).__mro__
    known = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters} - {"self", "args", "kwargs", "options"}
    return f"{called[1]} takes no argument '{unknown[1]}'; {nearest(unknown[1], sorted(known))}"


def check_node(node: Any, also: tuple[str, ...] = ()) -> None:
    """Checks every `_target_` in nested dicts and lists; refuses interpolations, which Hydra would resolve afterwards. Raises ZooError."""
    if isinstance(node, dict):
        if "_target_" in node:
            check_target(node["_target_"], also)
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            check_node(child, also)
    elif isinstance(node, str) and "${" in node:
        raise ZooError(f"The configuration holds the unresolved value '{node}'; write the value itself.")


def trust(names: Iterable[str]) -> None:
    """Lets classes of these packages or modules, or these classes, be instantiated in this process, too."""
    _trusted.update(map(str, names))


def take_trusted(config: DictConfig) -> list[str]:
    """Takes `trusted` out of a composed configuration and follows it: it is for this process, and never comes from a run's folder.

    What a person types may be made, too. Returns all that is trusted now beyond the allowlist.
    """
    with read_write(config), open_dict(config):
        given = [str(name) for name in config.pop("trusted", None) or ()]
    typed = {target for target in targets_of(OmegaConf.to_container(config)) if not target.startswith((*ALLOWED, *OF_LIGHTNING, "???"))}
    names = [*given, *sorted(typed - set(given))]
    trust(names)
    return names


def targets_of(node: Any) -> Iterator[str]:
    """Every `_target_` in nested dicts and lists."""
    if isinstance(node, dict):
        yield from [node["_target_"]] if isinstance(node.get("_target_"), str) else []
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from targets_of(child)


def allowed() -> tuple[str, ...]:
    """How the full names of classes begin that may be instantiated; $ZOO_TRUSTED names packages, too, with commas between."""
    further = _trusted | {name.strip() for name in os.environ.get("ZOO_TRUSTED", "").split(",") if name.strip()}
    return (*ALLOWED, *(f"{name}." for name in sorted(further)))


def check_target(target: Any, also: tuple[str, ...] = ()) -> None:
    """Raises ZooError unless `target` names a class that is defined in the zoo, torch.nn, torch.optim, `also` or what is trusted."""
    prefixes = (*allowed(), *also)
    package = str(target).partition(".")[0]
    refused = ZooError(
        f"The configuration asks for '{target}', which may not be instantiated; only classes of {', '.join(prefixes)} may. "
        f"If it is yours, add trusted=[{package}] (in Python zoo.load(…, trusted=['{package}']))."
    )
    if not isinstance(target, str) or not f"{target}.".startswith(prefixes):
        raise refused
    try:
        found = get_object(target)
    except (ImportError, ValueError, AttributeError) as error:
        raise ZooError(f"The configuration asks for '{target}', which does not exist ({' '.join(str(error).split())}).") from None
    here = target in _trusted or f"{getattr(found, '__module__', '')}.".startswith(prefixes)  # not merely imported there
    if not isinstance(found, type) or not here:
        raise refused
