"""Reading configurations: where conf/ lies, what may be instantiated, and sentences for what does not fit."""

import json
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from zoo.errors import ZooError

ALLOWED = ("zoo.", "torch.optim.", "torch.nn.")


def conf_dir() -> Path:
    """The folder of the configuration groups: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def build(config: Any, **arguments: Any) -> Any:
    """Instantiates a config node, if every `_target_` in it is a class of the zoo, torch.nn or torch.optim. Raises ZooError otherwise."""
    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    try:
        plain = json.loads(json.dumps(plain))  # what is checked is what is built: Hydra would look into tuples, too
    except (TypeError, ValueError) as error:
        raise ZooError(f"The configuration holds something that is not plain data ({error}).") from None
    check_node(plain)
    try:
        return instantiate(plain, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ZooError):
            raise error.__cause__ from None
        reason = f" ({error.__cause__})" if error.__cause__ else ""
        raise ZooError(f"The configuration does not fit: {str(error).splitlines()[0]}{reason}.") from error


def check_node(node: Any) -> None:
    """Checks every `_target_` in nested dicts and lists; refuses interpolations, which Hydra would resolve afterwards. Raises ZooError."""
    if isinstance(node, dict):
        if "_target_" in node:
            check_target(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            check_node(child)
    elif isinstance(node, str) and "${" in node:
        raise ZooError(f"The configuration holds the unresolved value '{node}'; write the value itself.")


def check_target(target: Any) -> None:
    """Raises ZooError unless `target` names a class that is defined in the zoo, torch.nn or torch.optim (not one merely imported there)."""
    refused = ZooError(f"The configuration asks for '{target}', which may not be instantiated; only classes of {', '.join(ALLOWED)} may.")
    if not isinstance(target, str) or not target.startswith(ALLOWED):
        raise refused
    try:
        found = get_object(target)
    except (ImportError, ValueError, AttributeError) as error:
        raise ZooError(f"The configuration asks for '{target}', which does not exist ({error}).") from None
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(ALLOWED):
        raise refused
