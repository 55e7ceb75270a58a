import csv
import json
import time

import hydra
from omegaconf import OmegaConf

from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.errors import ZooError
from zoo.runs.measurements import Measurement
from zoo.runs.metrics_csv import MetricsCsv
from zoo.training.loggers import CsvLogger, begin_loggers, build_loggers, close_loggers, has_wandb_account, log_summary


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_step_and_new_columns_late(tmp_path):
    """Rows of callbacks that know no images get them from the step; images of an earlier stage count."""
    log = CsvLogger(MetricsCsv(tmp_path / "metrics.csv", batch_size=8, images_before=80))
    log.log_metrics({"images_seen": 88, "train/loss": 1.5}, 0)
    log.log_metrics({"train/loss": 1.25}, 1)
    log.log_metrics({"images_seen": 96.0, "val/mse": 0.5}, 1)
    log.log_metrics({"train/loss": 1.0}, 2)
    assert rows(tmp_path / "metrics.csv") == [
        {"step": "0", "images_seen": "88", "train/loss": "1.5", "val/mse": ""},
        {"step": "1", "images_seen": "96", "train/loss": "1.25", "val/mse": "0.5"},
        {"step": "2", "images_seen": "104", "train/loss": "1", "val/mse": ""},
    ]


def test_a_resumed_run_goes_on_where_the_checkpoint_was(tmp_path):
    first = MetricsCsv(tmp_path / "metrics.csv", 8)
    for step in (0, 1, 2):
        first.append(step, {"train/loss": float(step)})
    second = MetricsCsv(tmp_path / "metrics.csv", 8)
    second.rewind(2)
    second.append(2, {"train/loss": 7.0})
    assert [(row["images_seen"], row["train/loss"]) for row in rows(tmp_path / "metrics.csv")] == [("8", "0"), ("16", "1"), ("24", "7")]


def test_an_account_is_a_key_or_a_netrc_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not has_wandb_account()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_wandb_account()
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_wandb_account()


def records(folder):
    """What a run has written for wandb sync, once all of it is there: W&B's own process writes on for a moment after finish()."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    end, found = time.monotonic() + 30, []
    while not any(record.HasField("exit") for record in found):
        assert time.monotonic() < end, f"only {[record.WhichOneof('record_type') for record in found]} in {path}"
        time.sleep(0.05)
        found = [Record.FromString(entry) for entry in log_entries(path.read_bytes())]
    return found


def log_entries(data):
    """The entries of a LevelDB log behind W&B's header of 7 bytes; leaves out one that is not whole yet."""
    position, entry, found = 7, b"", []
    while position + 7 <= len(data):
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        entry += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4) and position <= len(data):  # an entry in one piece, or the last piece of one
            found.append(entry)
            entry = b""
        if 32768 - position % 32768 < 7:  # what is left of a block holds no header
            position += 32768 - position % 32768
    return found


LOGGER = {
    "_target_": "pytorch_lightning.loggers.WandbLogger",
    "mode": "offline", "project": "p", "entity": "me", "group": "sweep", "job_type": "pretrain", "tags": ["vae", "faces"],
    "name": "vae-faces-s0", "id": "abc",
}  # fmt: skip
SUMMARY = {
    "measurements": [Measurement("samples", "frechet", 7.25, "val", 2000, "normal", "classifier").to_dict()],
    "model": "vae", "data": "faces", "seed": 3, "command": "…", "metrics": {"val/mse": 0.5},
    "images_seen": 64, "parameters": 1000, "images_per_second": 12.5, "device_hours": 0.25, "accelerator": "cpu", "versions": {"zoo": "1"},
}  # fmt: skip


def settings(*overrides, **changes):
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return check(OmegaConf.to_container(hydra.compose("train", list(overrides)), resolve=True) | changes)


def begun(settings, folder):
    loggers = build_loggers(settings, folder)
    begin_loggers(loggers, settings)
    return [*loggers.values()]


def test_a_wandb_run_holds_names_settings_and_final_numbers(tmp_path):
    loggers = begun(settings("seed=3", logger={"wandb": LOGGER}), tmp_path)
    for logger in loggers:
        logger.log_metrics({"images_seen": 8, "val/mse": 0.75}, step=8)
    log_summary(loggers, SUMMARY)
    try:
        raise ZooError("diverged")
    except ZooError:
        close_loggers(loggers)

    found = records(tmp_path)
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.project, run.entity, run.run_group, run.job_type, run.run_id) == ("p", "me", "sweep", "pretrain", "abc")
    assert (run.display_name, [*run.tags]) == ("vae-faces-s0", ["vae", "faces"])
    assert next(r.metric.step_metric for r in reversed(found) if r.metric.glob_name == "*") == "images_seen"
    configured = {item.key: json.loads(item.value_json) for record in found for item in record.config.update}
    assert configured["model"]["name"] == "vae"
    summary = {}
    for record in found:
        summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
    final = {"val/mse": 0.5, "val/samples/normal/frechet@2000": 7.25}
    costs = {"cost/images_seen": 64, "cost/parameters": 1000, "cost/images_per_second": 12.5, "cost/device_hours": 0.25}
    assert {name: summary[name] for name in final | costs} == final | costs
    assert not {"cost/seed", "seed", "cost/accelerator"} & summary.keys()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/tables/*.json")
    expected = [["vae", "faces", 3, name, value] for name, value in (final | costs).items()]
    assert json.loads(table.read_text()) == {"columns": ["model", "data", "seed", "metric", "value"], "data": expected}
    assert next(record.exit.exit_code for record in found if record.HasField("exit")) == 1  # not shown as finished
