"""The command line of a sweep: whether it is one, which folder it has, and what Hydra is told."""

import contextlib
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from zoo.config.instantiate import conf_dir
from zoo.config.overrides import is_flag, quoted, runs_folder, unquoted
from zoo.errors import ZooError
from zoo.runs.layout import SWEEP
from zoo.runs.records import read_sweep
from zoo.runs.status import state_of
from zoo.sweeps.jobs import identity

STATES = {"finished": "finished", "interrupted": "to be resumed", "failed": "to be tried again", "new": "new"}


def point_hydra_at_sweep() -> Path | None:
    """If the command line starts a sweep, returns its folder and tells Hydra: that of the same sweep if it was stopped, or a new one.

    The same sweep has the same arguments, apart from those of the launcher. Nothing is written.

    Raises:
        ZooError: The command line asks for what a sweep cannot do.
    """
    arguments = under_swept_groups(sys.argv[1:])
    if not any(is_flag(argument) for argument in arguments) or {"--help", "-h", "--hydra-help"} & {*arguments}:
        return None
    for argument in arguments:
        if argument in ("--cfg", "-c", "--info", "-i"):
            raise ZooError(f"{argument} shows the settings of one run; leave -m out, and give each setting one value.")
        if argument.startswith("resume=") and argument != "resume=null":
            raise ZooError("A sweep cannot resume one run; start the same sweep again to go on with its jobs, or leave -m out.")
    given = [unquoted(argument) for argument in arguments if argument.startswith("hydra.sweep.dir=")]
    if given and "$" in given[-1]:
        raise ZooError(f"hydra.sweep.dir={given[-1]} must be a plain path.")
    sweeps = runs_folder(arguments) / "sweeps"
    new = sweeps / f"{datetime.now():%Y-%m-%d/%H-%M-%S}"
    if new.exists():
        new = new.with_name(f"{new.name}-{os.getpid()}")
    folder = Path(given[-1]) if given else stopped_sweep(arguments, sweeps) or new
    if (folder / SWEEP).is_file():
        states = [state_of(folder / job["folder"]) for job in read_sweep(folder)["jobs"]]
        counts = [f"{states.count(state)} {what}" for state, what in STATES.items() if state in states]
        print(f"Going on with the sweep in {folder}: {', '.join(counts)}.", flush=True)
    sys.argv[1:] = [*(a for a in arguments if not a.startswith("hydra.sweep.dir=")), f"hydra.sweep.dir={quoted(folder)}"]
    return folder


def stopped_sweep(arguments: Sequence[str], sweeps: Path) -> Path | None:
    """The newest sweep below `sweeps` with the same arguments, unless all is done there."""
    for path in sorted(sweeps.glob("*/*/sweep.json"), reverse=True):
        record = read_sweep(path.parent)
        if record.get("arguments") == identity(arguments):
            states = {state_of(path.parent / job["folder"]) for job in record["jobs"]}
            return None if record["ended"] and states == {"finished"} else path.parent
    return None


def under_swept_groups(arguments: list[str]) -> list[str]:
    """Turns a setting below a swept group into a choice of one: `model=glow,fvae model.flow.depth=1` into `… model.flow.depth=choice(1)`.

    Hydra looks for other settings in the group's default, before it takes up the values that are swept.
    """
    parser = OverridesParser.create()
    parsed: dict[int, Any] = {}
    for position, argument in enumerate(arguments):
        with contextlib.suppress(HydraException):  # Hydra will say so
            parsed[position] = parser.parse_override(argument)
    keys = [override.key_or_group for override in parsed.values() if override.is_sweep_override()]
    groups = tuple(f"{key.replace('/', '.')}." for key in keys if (conf_dir() / key).is_dir())
    changed = list(arguments)
    for position, override in parsed.items():
        below = override.key_or_group.startswith(groups) or ("experiment." in groups and "." in override.key_or_group)
        key, _, value = arguments[position].partition("=")
        if below and value and not override.is_sweep_override() and not override.is_hydra_override() and not key.startswith("~"):
            changed[position] = f"{key}=choice({value})"
    return changed
