"""Hydra's command line: flags, and values in its grammar."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def is_flag(argument: str) -> bool:
    """Whether this is -m, --multirun or a beginning of it."""
    return argument in ("-m", "hydra.mode=MULTIRUN") or (len(argument) > 2 and "--multirun".startswith(argument))


def takes_several(override: Any) -> bool:
    """Whether an override of the command line gives jobs different values."""
    if not override.is_sweep_override():
        return False
    return not override.is_discrete_sweep() or len(list(override.sweep_string_iterator())) > 1


def quoted(path: Path | str) -> str:
    """A path as a value in Hydra's grammar: without quotes where it can be, as people see it in commands."""
    if "/" in str(path) and re.fullmatch(r"[\w./+-]+", str(path), flags=re.ASCII):
        return str(path)
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(path)) + "'"


def unquoted(argument: str) -> str:
    """The value of `key=value` in Hydra's grammar, as text."""
    with contextlib.suppress(HydraException):
        value = OverridesParser.create().parse_override(argument).value()
        if isinstance(value, str):
            return value
    return argument.partition("=")[2]  # a folder called 12


def runs_folder(arguments: Sequence[str] = ()) -> Path:
    """The folder of runs and sweeps before Hydra composes: paths.runs as typed, else $ZOO_RUNS, else runs/."""
    typed = [unquoted(argument) for argument in arguments if argument.startswith("paths.runs=")]
    return Path(typed[-1] if typed else os.environ.get("ZOO_RUNS") or "runs").expanduser()
