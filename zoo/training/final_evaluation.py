"""The step after fit: the validation split, measured by the protocol of zoo.evaluate with a small N."""

import sys
from pathlib import Path
from typing import Any

from zoo.callbacks.clock import images_seen
from zoo.callbacks.training_metrics import log
from zoo.config.schema import ResolvedSettings
from zoo.data.module import DataModule
from zoo.evaluation.context import Subject, features_of
from zoo.evaluation.protocol import GROUPS, LEAST, evaluate
from zoo.evaluation.validation import quiet
from zoo.models.base import Autoencoder


def evaluate_validation(
    trainer: Any, model: Autoencoder, data: DataModule, settings: ResolvedSettings, run: Path, known: dict[str, float]
) -> dict[str, float]:
    """Measures and logs, on all ranks. An error costs these numbers alone, and is named: the training has been saved.

    Returns nothing where fewer images than the protocol needs were asked for, or the numbers are known already.
    """
    asked = settings.evaluation.samples
    samples = min(asked, data.limit or asked, len(data.store.indices("val")))
    if samples < LEAST or any(name.removeprefix("val/").split("/")[0] in GROUPS for name in known):
        return {}
    subject = Subject(model, data.store, "val", samples, cache=data.cache)
    try:
        subject.features = features_of(subject, "classifier", None)
        with quiet(model, trainer):
            found = {f"val/{name}": value for name, value in evaluate(subject, settings.evaluation.metrics).items()}
    except Exception as error:
        print(
            f"The evaluation was left out ({type(error).__name__}: {error}); try python -m zoo.evaluate run={run}.",
            file=sys.stderr,
        )
        return {}
    log(trainer, images_seen(trainer, model), found)
    return found
