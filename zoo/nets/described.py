"""What an object was made of, as plain data: what hyperparameters and checkpoints hold of backbones, flows, priors and models."""

import functools
import inspect
from typing import Any

GIVE_AGAIN = "_give_again_"  # marks an argument that cannot be described, with its class


class Described:
    """Remembers the arguments it was made with, for `describe`."""

    _made_of: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        object.__setattr__(made, "_made_of", (args, kwargs))
        return made

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, described."""
        signature = inspect.signature(type(self).__init__)
        given = self._made_of
        named: dict[str, Any] = {}
        for name, value in list(signature.bind(self, *given[0], **given[1]).arguments.items())[1:]:
            several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            named |= value if several else {name: value}
        return {name: describe(value) for name, value in named.items()}


def describe(value: Any) -> Any:
    """Plain data that `zoo.config.instantiate.build` makes the same of: a node with `_target_` for an object of this project's classes.

    An object of another class becomes {"_give_again_": "its.Class"}: whoever loads gives it as an argument.
    """
    if isinstance(value, Described):
        return {"_target_": name_of(type(value)), **value.arguments()}
    if isinstance(value, functools.partial) and isinstance(value.func, type) and not value.args:
        return {"_target_": name_of(value.func), "_partial_": True, **{name: describe(part) for name, part in value.keywords.items()}}
    if isinstance(value, dict):
        return {name: describe(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [describe(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else {GIVE_AGAIN: name_of(type(value))}


def name_of(kind: type) -> str:
    """What `_target_` calls a class."""
    return f"{kind.__module__}.{kind.__qualname__}"
