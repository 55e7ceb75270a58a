"""The step after fit: the validation split, measured by the protocol of zoo.evaluate with a small N."""

import sys
from pathlib import Path
from typing import Any

from zoo.callbacks.clock import images_seen
from zoo.callbacks.training_metrics import log
from zoo.config.schema import ResolvedSettings
from zoo.data.module import DataModule
from zoo.evaluation.context import EvalContext, features_of
from zoo.evaluation.protocol import LEAST, evaluate
from zoo.models.base import Autoencoder, evaluation_mode
from zoo.runs.measurements import Measurement, by_flat_name


def evaluate_validation(trainer: Any, model: Autoencoder, data: DataModule, settings: ResolvedSettings, run: Path) -> list[Measurement]:
    """Measures and logs, on all ranks. An error costs these numbers alone, and is named: the training has been saved.

    Returns nothing where fewer images than the protocol needs were asked for.
    """
    asked = settings.evaluation.samples
    samples = min(asked, data.limit or asked, len(data.store.indices("val")))
    if samples < LEAST:
        return []
    context = EvalContext(model, data.store, "val", samples, cache=data.cache)
    try:
        context.features = features_of(context, "classifier", None)
        with evaluation_mode(model, trainer):
            found = evaluate(context, settings.evaluation.metrics)
    except Exception as error:
        if trainer.is_global_zero:
            reason = f"{type(error).__name__}: {error}"
            print(f"The evaluation was left out ({reason}); try python -m zoo.evaluate run={run}.", file=sys.stderr)
        return []
    log(trainer, images_seen(trainer, model), by_flat_name(found))
    return found
