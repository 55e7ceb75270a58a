"""Loggers and callbacks from the command line: Lightning's and one's own, several at once."""

import csv
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.config import instantiate

MINE = """
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger


class Note(pl.Callback):
    def __init__(self, text="nothing"):
        self.text = text

    def on_train_end(self, trainer, pl_module):
        print(f"NOTE {self.text} {trainer.global_step}")


class Lines(Logger):
    name, version = "lines", 0

    def __init__(self, path):
        super().__init__()
        self.path = path

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        with open(self.path, "a") as file:
            print(*sorted(metrics), file=file)
"""
NOTE = ["+callbacks.mine._target_=mine.Note", "+callbacks.mine.text=hello"]


@pytest.fixture
def own(tiny, tmp_path, monkeypatch):
    """A file mine.py in the current folder; overrides for a second of training, without a logger. Forgets what is trusted."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(instantiate, "_trusted", set())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return [override for override in tiny if not override.startswith("logger=")] + ["evaluation.samples=0"]


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_two_loggers_both_log_numbers_and_pictures(zoo, own, tmp_path):
    done = zoo("train", *own, "logger=[wandb,tensorboard]", "hydra.run.dir=run")
    assert done.code == 0, done.err
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload().Tags()
    assert {"train/loss", "val/mse"} <= {*events["scalars"]}
    assert "pictures/samples" in events["images"]
    (offline,) = (tmp_path / "run/wandb").glob("offline-run-*")
    assert list(offline.glob("files/media/images/pictures/samples*.png"))
    (log,) = offline.glob("*.wandb")
    assert b"val/mse" in log.read_bytes()


def test_lightning_s_csv_logger_stands_beside_metrics_csv(zoo, own, tmp_path):
    done = zoo("train", *own, "logger=csv", "hydra.run.dir=run")
    assert done.code == 0, done.err
    ours, theirs = rows(tmp_path / "run/metrics.csv"), rows(tmp_path / "run/csv/version_0/metrics.csv")
    assert float(theirs[-1]["val/mse"]) == pytest.approx(float(ours[-1]["val/mse"]))
    assert zoo("train", "resume=run", "max_images=96").code == 0
    assert theirs == rows(tmp_path / "run/csv/version_0/metrics.csv")  # a resumed run takes nothing away
    assert (tmp_path / "run/csv/version_1/metrics.csv").exists()


def test_a_logger_and_a_callback_of_ones_own(zoo, own, tmp_path):
    mine = ["+logger.mine._target_=mine.Lines", "+logger.mine.path=lines.txt"]
    done = zoo("train", *own, "logger=none", *mine, *NOTE, "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert "NOTE hello 8" in done.out
    assert "val/mse" in (tmp_path / "lines.txt").read_text()
    instantiate._trusted.clear()
    refused = zoo("train", "resume=run", "max_images=96")
    assert refused.code == 2
    assert "add trusted=[mine]" in refused.err
    again = zoo("train", "resume=run", "max_images=96", "trusted=[mine]", "+callbacks.mine.text=again")
    assert again.code == 0, again.err
    assert "NOTE again 12" in again.out


@pytest.mark.parametrize("bar", ["RichProgressBar", "TQDMProgressBar"])
def test_a_progress_bar_of_lightning_replaces_the_zoo_s(zoo, own, tmp_path, bar):
    done = zoo("train", *own, "logger=none", f"+callbacks.bar._target_=pytorch_lightning.callbacks.{bar}", "hydra.run.dir=run")
    assert done.code == 0, done.err


CALLBACK, LOGGER = "+callbacks.mine._target_=", "+logger.mine._target_="
EARLY = "callbacks=early_stopping"
WRONG = {
    (f"{CALLBACK}mine.Lines",): "callbacks.mine._target_=mine.Lines is no Callback of pytorch_lightning",
    (f"{LOGGER}mine.Note",): "logger.mine._target_=mine.Note is no Logger of pytorch_lightning",
    (f"{CALLBACK}mine.Noot",): "mine.Noot', which does not exist",
    (f"{LOGGER}nowhere.Logger",): "nowhere.Logger', which does not exist",
    (f"{CALLBACK}os.system",): "may not be instantiated",
    (f"{CALLBACK}mine.Note", "+callbacks.mine.txet=a"): "mine.Note takes no argument 'txet'; did you mean 'text'?",
    (f"{CALLBACK}lightning.pytorch.callbacks.Timer",): "write pytorch_lightning.callbacks.Timer",
    ("+callbacks.mine.text=a",): "callbacks.mine names no class; give +callbacks.mine._target_=my_package.MyCallback",
    (EARLY, "+callbacks.early_stopping.patiens=1"): "EarlyStopping takes no argument 'patiens'; did you mean 'patience'?",
    (EARLY, f"{CALLBACK}pytorch_lightning.callbacks.EarlyStopping", "+callbacks.mine.monitor=val/mse"): "are alike",
    ("logger=wandb", "+logger.wandb.projct=a"): "logger.wandb takes no argument 'projct'; did you mean 'project'?",
    ("callbacks=early_stoping",): "did you mean 'early_stopping'?",
    ("logger=null",): "none of the files in conf/logger; take one of csv, mlflow, none, tensorboard, wandb",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(zoo, own, tmp_path, overrides):
    logger = [] if any(override.startswith("logger=") for override in overrides) else ["logger=none"]
    done = zoo("train", *own, *logger, *overrides, "hydra.run.dir=run")
    assert done.code == 2, done.out
    assert len(done.err.strip().splitlines()) == 1
    assert WRONG[overrides] in done.err
    assert not (tmp_path / "run").exists()


def test_mlflow_is_asked_for_by_name_where_it_is_missing(zoo, own, tmp_path, monkeypatch):
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", False)
    done = zoo("train", *own, "logger=mlflow", "hydra.run.dir=run")
    assert done.code == 2
    assert "A package is not installed" in done.err
    assert not (tmp_path / "run").exists()
