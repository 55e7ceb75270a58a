"""A run's callbacks from the group `callbacks`: Lightning's, or anybody's, beside those that every run has."""

import inspect
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from zoo.config.instantiate import build_group
from zoo.config.schema import TrainSettings
from zoo.errors import ZooError, nearest

BEST = "best"  # folder of ModelCheckpoint's files: those in checkpoints/ are what a run resumes from


class MonitoredNames(pl.Callback):
    """Says at the first validation which monitored metric there is not. Lightning would raise an error of its own."""

    def __init__(self, monitors: dict[str, str]) -> None:
        self.monitors = monitors  # from the names of callbacks to their metrics

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        known = sorted(trainer.callback_metrics)
        for name, monitor in self.monitors.items():
            if not trainer.sanity_checking and monitor not in known:
                raise ZooError(f"callbacks.{name}.monitor={monitor} is not measured; {nearest(monitor, known)}")


def build_callbacks(settings: TrainSettings, folder: Path) -> list[pl.Callback]:
    """The callbacks that are asked for, of a stage that writes into `folder`; nothing is written yet.

    A ModelCheckpoint without a `dirpath` writes into `folder`/best. Raises ZooError, see build_group, and for two that Lightning would not
    tell apart in a checkpoint.
    """

    def more(name: str, kind: type, node: dict[str, Any]) -> dict[str, Any]:
        default = "dirpath" in inspect.signature(kind).parameters and node.get("dirpath") is None
        return {"dirpath": str(folder / BEST)} if default else {}

    made = build_group("callbacks", settings.callbacks, pl.Callback, more)
    bars = [name for name, callback in made.items() if isinstance(callback, pl.callbacks.ProgressBar)]
    if len(bars) > 1:
        raise ZooError(f"callbacks.{bars[0]} and callbacks.{bars[1]} are two progress bars; leave one out.")
    if bars and settings.trainer.enable_progress_bar is False:
        raise ZooError(f"callbacks.{bars[0]} is a progress bar, and trainer.enable_progress_bar=false shows none; leave one of them out.")
    names: dict[str, str] = {}
    for name, callback in made.items():
        twin = names.setdefault(callback.state_key, name)
        if twin != name and callback.state_dict():
            raise ZooError(f"callbacks.{twin} and callbacks.{name} are alike, so a checkpoint could not tell them apart; leave one out.")
    monitors = {name: callback.monitor for name, callback in made.items() if isinstance(getattr(callback, "monitor", None), str)}
    if monitors and settings.trainer.limit_val_batches == 0:
        name, monitor = next(iter(monitors.items()))
        raise ZooError(f"callbacks.{name} watches {monitor}, and trainer.limit_val_batches=0 validates nothing; leave one of them out.")
    return [*([MonitoredNames(monitors)] if monitors else []), *made.values()]
