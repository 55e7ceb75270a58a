"""The group `callbacks`: what Lightning's callbacks do in a run of the zoo."""

import csv

import pytest

import zoo as package


@pytest.fixture
def own(tiny):
    """Overrides for 16 steps with a validation every other one."""
    return [o for o in tiny if not o.startswith(("max_images", "val_every"))] + [
        "max_images=128",
        "val_every_images=16",
        "evaluation.samples=0",
    ]


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_early_stopping_and_the_best_checkpoint_beside_the_last_ones(zoo, own, tmp_path):
    never_better = ["callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=10"]
    done = zoo("train", *own, "callbacks=[early_stopping,model_checkpoint]", *never_better, "hydra.run.dir=run")
    assert done.code == 0, done.err
    measured = {int(row["images_seen"]): float(row["val/mse"]) for row in rows(tmp_path / "run/metrics.csv") if row["val/mse"]}
    assert [*measured] == [16, 32, 48]  # the first sets the mark, two do not pass it
    (best,) = (tmp_path / "run/best").glob("*.ckpt")
    assert best.stem == f"step_{min(measured, key=measured.get) // 8}"
    assert package.load(best).images_seen == min(measured, key=measured.get)
    assert [path.name for path in sorted((tmp_path / "run/checkpoints").glob("*.ckpt"))][-1] == "000000000048.ckpt"


def test_a_metric_that_is_not_measured_is_named_at_the_first_validation(zoo, own, tmp_path):
    done = zoo("train", *own, "callbacks=early_stopping", "callbacks.early_stopping.monitor=val/msee", "hydra.run.dir=run")
    assert done.code == 2
    assert "callbacks.early_stopping.monitor=val/msee is not measured; did you mean 'val/mse'?" in done.err
    assert "Traceback" not in done.err


def test_lr_monitor_writes_into_metrics_csv(zoo, own, tmp_path):
    done = zoo("train", *own, "callbacks=lr_monitor", "hydra.run.dir=run")
    assert done.code == 0, done.err
    table = rows(tmp_path / "run/metrics.csv")
    (name,) = (name for name in table[0] if name.startswith("lr-") and name.endswith("autoencoder"))
    measured = [row for row in table if row[name]]
    assert measured
    assert all(int(row["images_seen"]) % 8 == 0 for row in measured)
