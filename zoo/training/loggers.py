"""The loggers of a run: CSV always; W&B (offline without an account), TensorBoard or none beside it."""

import netrc
import os
import sys
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from zoo.config.schema import TrainSettings
from zoo.errors import ZooError
from zoo.hardware import is_rank_zero
from zoo.runs.measurements import by_flat_name, measurements_of
from zoo.runs.metrics_csv import MetricsCsv


class CsvLogger(Logger):
    """Writes `metrics.csv`. Lightning's own CSVLogger would delete the file of a run that is resumed."""

    name = "csv"
    version = 0

    def __init__(self, file: MetricsCsv) -> None:
        super().__init__()
        self.file = file

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass  # config.yaml holds them

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.file.append(step, metrics)


def final_numbers(summary: dict[str, Any]) -> dict[str, float]:
    """What the W&B summary of a finished run holds of its summary.json: metrics and measurements as they were logged, and `cost/…`."""
    costs = {f"cost/{name}": value for name, value in summary.items() if isinstance(value, int | float) and name not in ("seed", "format")}
    return summary["metrics"] | by_flat_name(measurements_of(summary)) | costs


def log_summary(loggers: list[Logger], summary: dict[str, Any]) -> None:
    """Puts the final numbers into the W&B run, under the same names for all models, so that tables of runs can be sorted by them.

    Also as the table `tables/metrics`, a row for each number, which W&B joins over runs.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger) and is_rank_zero():
            import wandb

            about, numbers = [summary[name] for name in ("model", "data", "seed")], final_numbers(summary)
            rows = [[*about, name, float(value)] for name, value in numbers.items()]
            table = wandb.Table(columns=["model", "data", "seed", "metric", "value"], data=rows)
            logger.experiment.log({"tables/metrics": table})
            logger.experiment.summary.update(numbers)


def close_loggers(loggers: list[Logger]) -> None:
    """Ends the W&B run, so that the next job of a sweep begins its own; as failed while an exception is on its way."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and is_rank_zero():
            logger.experiment.finish(exit_code=int(sys.exc_info()[0] is not None))


def has_wandb_account() -> bool:
    """Whether a W&B key is configured, in the environment or in ~/.netrc; asks no server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").removeprefix("https://").removeprefix("http://").split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def build_loggers(settings: TrainSettings, run: Path) -> list[Logger]:
    """The loggers of a run that are asked for beside metrics.csv. Raises ZooError if W&B refuses, or TensorBoard is not installed."""
    logger = settings.logger
    if logger.kind == "wandb" and is_rank_zero():
        return [wandb_logger(settings, run)]
    if logger.kind == "tensorboard":
        try:
            return [TensorBoardLogger(run, name="", version="tensorboard")]
        except ModuleNotFoundError:
            raise ZooError("logger=tensorboard needs the package tensorboard; install it with pip install 'zoo[tensorboard]'.") from None
    return []


def wandb_logger(settings: TrainSettings, run: Path) -> WandbLogger:
    """Begins or goes on with the W&B run. Raises ZooError if W&B refuses it or is not reached."""
    import wandb  # a second of imports that other loggers need not wait for

    logger = settings.logger
    mode: Any = logger.mode
    if mode == "auto":  # WANDB_MODE decides where it is set
        mode = None if "WANDB_MODE" in os.environ else "online" if has_wandb_account() else "offline"
    names = ("project", "entity", "group", "job_type", "tags", "name", "id")
    try:
        experiment = wandb.init(
            dir=run,
            mode=mode,
            resume="allow",
            config=settings.plain(),
            settings=wandb.Settings(silent=True),
            **{name: getattr(logger, name) for name in names},
        )
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ZooError(f"W&B did not begin the run ({reason}); look at wandb login, or set logger.mode=offline or logger=none.") from error
    experiment.define_metric("images_seen")
    experiment.define_metric("*", step_metric="images_seen")
    return WandbLogger(experiment=experiment)
