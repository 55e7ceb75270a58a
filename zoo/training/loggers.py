"""The loggers of a run: metrics.csv always; beside it those of conf/logger, or anybody's, several at once."""

import inspect
import netrc
import os
import sys
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from zoo.callbacks.lightning_internals import leave_out_anonymous
from zoo.config.instantiate import build_group
from zoo.config.schema import TrainSettings
from zoo.errors import ZooError, nearest
from zoo.hardware import is_rank_zero
from zoo.runs.layout import CONFIG, config_of
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


def build_loggers(settings: TrainSettings, folder: Path) -> dict[str, Logger]:
    """The loggers that are asked for beside metrics.csv, by name; nothing is written yet. Raises ZooError, see build_group."""

    def more(name: str, kind: type, node: dict[str, Any]) -> dict[str, Any]:
        arguments = inspect.signature(kind).parameters
        found: dict[str, Any] = {"save_dir": str(folder)} if "save_dir" in arguments and node.get("save_dir") is None else {}
        if "run_id" in arguments and node.get("run_id") is None:
            found["run_id"] = ((config_of(folder / CONFIG).get("logger") or {}).get(name) or {}).get("run_id")
        if issubclass(kind, WandbLogger):
            check_wandb_arguments(name, kind, node)
            found |= {"mode": wandb_mode(node), "settings": {"silent": True} | (node.get("settings") or {})}
        return found

    return build_group("logger", settings.logger, Logger, more)


def check_wandb_arguments(name: str, kind: type, node: dict[str, Any]) -> None:
    """Raises ZooError for an argument that neither the logger nor wandb.init takes: it would be noticed when the run begins."""
    import wandb  # a second of imports that other loggers need not wait for

    known = {*inspect.signature(kind).parameters, *inspect.signature(wandb.init).parameters} - {"kwargs", "experiment"}
    for argument in node.keys() - known - {"_target_"}:
        raise ZooError(f"logger.{name} takes no argument '{argument}'; {nearest(argument, sorted(known))}")


def wandb_mode(node: dict[str, Any]) -> str | None:
    """W&B's mode; None leaves it to WANDB_MODE."""
    if node.get("offline"):
        return "offline"
    if node.get("mode", "auto") != "auto":
        return node["mode"]
    return None if "WANDB_MODE" in os.environ else "online" if has_wandb_account() else "offline"


def begin_loggers(loggers: dict[str, Logger], settings: TrainSettings) -> None:
    """Begins or goes on with runs of W&B and MLflow, on rank 0. Raises ZooError where they refuse or are not reached."""
    for name, logger in loggers.items():
        if not is_rank_zero():
            return
        if isinstance(logger, WandbLogger):
            begin_wandb(logger)
            logger.log_hyperparams(settings.plain())
        elif isinstance(logger, MLFlowLogger):
            try:
                settings.logger[name]["run_id"] = logger.run_id  # for config.yaml: a resumed run goes on with it
            except Exception as error:
                reason = " ".join(str(error).split()).rstrip(".")
                raise ZooError(f"MLflow did not begin the run ({reason}); look at logger.{name}.tracking_uri.") from error


def begin_wandb(logger: WandbLogger) -> None:
    """Begins or goes on with a W&B run. Raises ZooError if W&B refuses it or is not reached."""
    import wandb

    leave_out_anonymous(logger)
    try:
        experiment = logger.experiment
    except (wandb.errors.Error, ValueError) as error:  # ValueError: what wandb.Settings refuses
        reason = " ".join(str(error).split()).rstrip(".")
        raise ZooError(
            f"W&B did not begin the run ({reason}); look at wandb login, or set logger.wandb.mode=offline or logger=none."
        ) from error
    experiment.define_metric("images_seen")
    experiment.define_metric("*", step_metric="images_seen")
