import csv

from zoo.engine.loggers import CsvLog, has_wandb_account


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_images_seen_and_new_columns_late(tmp_path):
    log = CsvLog(tmp_path / "metrics.csv")
    log.log_metrics({"images_seen": 8, "train/loss": 1.5})
    log.log_metrics({"images_seen": 16, "train/loss": 1.25})
    log.log_metrics({"images_seen": 16, "val/mse": 0.5})
    log.log_metrics({"images_seen": 24, "train/loss": 1.0})
    assert rows(tmp_path / "metrics.csv") == [
        {"images_seen": "8", "train/loss": "1.5", "val/mse": ""},
        {"images_seen": "16", "train/loss": "1.25", "val/mse": "0.5"},
        {"images_seen": "24", "train/loss": "1", "val/mse": ""},
    ]


def test_a_resumed_run_goes_on_where_the_checkpoint_was(tmp_path):
    first = CsvLog(tmp_path / "metrics.csv")
    for seen in (8, 16, 24):
        first.log_metrics({"images_seen": seen, "train/loss": float(seen)})
    second = CsvLog(tmp_path / "metrics.csv")
    second.rewind(16)
    second.log_metrics({"images_seen": 24, "train/loss": 7.0})
    assert [(row["images_seen"], row["train/loss"]) for row in rows(tmp_path / "metrics.csv")] == [("8", "8"), ("16", "16"), ("24", "7")]


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
