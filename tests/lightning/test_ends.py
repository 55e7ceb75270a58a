"""Training that something other than max_images has ended is complete, and says why."""

import json

import pytest

from zoo.runs.checkpoint import all_of
from zoo.runs.status import state_of


def summary(run):
    return json.loads((run / "summary.json").read_text())


def test_max_time_ends_a_run_which_is_complete_with_the_reason(zoo, tiny, tmp_path):
    settings = [*tiny, "max_images=8000000", "trainer.max_time=00:00:00:01", "evaluation.samples=0"]
    done = zoo("train", *settings, "hydra.run.dir=run")
    assert done.code == 0, done.err
    found = summary(tmp_path / "run")
    assert found["training"] == {"max_images": 8_000_000, "complete": True, "ended": "trainer.max_time is over"}
    assert "trainer.max_time is over" in done.out
    assert 8 < found["images_seen"] < 8_000_000
    assert int(all_of(tmp_path / "run")[0].stem) == found["images_seen"]
    assert found["metrics"]["val/mse"] > 0
    assert state_of(tmp_path / "run") == "finished"
    again = zoo("train", "resume=run")
    assert again.code == 0, again.err
    assert "was ended after" in again.out
    assert summary(tmp_path / "run")["images_seen"] == found["images_seen"]
    assert summary(tmp_path / "run")["training"] == found["training"]


def test_early_stopping_ends_a_run_which_is_complete_with_the_reason(zoo, tiny, tmp_path):
    stopping = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100"]
    done = zoo("train", *tiny, *stopping, "max_images=800", "val_every_images=16", "evaluation.samples=16", "hydra.run.dir=run")
    assert done.code == 0, done.err
    found = summary(tmp_path / "run")
    assert found["images_seen"] == 32  # the first validation is the best, and the second no better
    assert found["training"]["ended"].startswith("EarlyStopping: Monitored metric val/mse did not improve")
    assert found["measurements"] == [] or found["measurements"][0]["split"] == "val"
    assert all_of(tmp_path / "run")[0].stem == "000000000032"
    assert state_of(tmp_path / "run") == "finished"
    assert "was ended after 32 images" in zoo("train", "resume=run").out
    longer = zoo("train", "resume=run", "max_images=1600")
    assert longer.code == 0, longer.err
    assert summary(tmp_path / "run")["images_seen"] == 48  # it goes on, and is no better at the next validation


def test_a_first_stage_that_was_ended_moves_on_to_the_second(zoo, tiny, tmp_path):
    own = [override for override in tiny if not override.startswith(("max_images", "model.backbone"))]
    settings = ["model=two_stage", "model.autoencoder.backbone.width=16", "max_images=8000000", "trainer.max_time=00:00:00:01"]
    done = zoo("train", *own, *settings, "evaluation.samples=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    first, second = summary(tmp_path / "run/pretrain"), summary(tmp_path / "run")
    assert first["training"]["complete"]
    assert second["training"]["complete"]
    assert "ended" in first["training"]
    assert second["images_seen"] > first["images_seen"]


@pytest.mark.parametrize("ema", [[], ["ema_decay=0.9"]])
def test_the_weights_that_were_measured_are_named(zoo, tiny, tmp_path, ema):
    done = zoo("train", *tiny, *ema, "evaluation.samples=0", "hydra.run.dir=run")
    assert ("averages over 10 steps, and this training has 8" in done.err) is bool(ema)
    assert ("averaged weights" if ema else "last weights") in " ".join(done.out.split())
