"""The Trainer's own arguments, typed as `trainer.…`: each reaches it, or is refused with a reason."""

import csv
import inspect
import json

import hydra
import pytest
import pytorch_lightning as pl
import torch
import yaml

from tests.lightning.test_any_trainer import SMALL, loader, trainer
from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.config.schema import DECIDED, TrainerSettings
from zoo.models.vaegan import VAEGAN
from zoo.training.resolve import resolve_config

GROUPS = {"callbacks", "logger"}


def arguments():
    return {name: p.default for name, p in inspect.signature(pl.Trainer.__init__).parameters.items() if name != "self"}


def test_every_argument_stands_in_the_default_file_with_lightnings_value_or_the_reason():
    text = (conf_dir() / "trainer/default.yaml").read_text()
    node, theirs = yaml.safe_load(text), arguments()
    assert node.keys() == theirs.keys() - GROUPS == TrainerSettings.model_fields.keys()
    assert TrainerSettings.model_validate(node) == TrainerSettings()
    lines = {line.partition(":")[0]: line for line in text.splitlines()}
    for name, value in node.items():
        assert value == theirs[name] or "Lightning: " in lines[name] or value in (None, "auto"), lines[name]


@pytest.mark.parametrize("name", DECIDED)
def test_what_zoo_train_decides_is_refused_with_the_reason(zoo, tiny, tmp_path, name):
    given = {bool: "true", int: "1", float: "0.5"}.get(type(arguments()[name]), "1") if name != "enable_checkpointing" else "false"
    given = "false" if name == "use_distributed_sampler" and DECIDED[name][0] else given
    done = zoo("train", *tiny, f"trainer.{name}={'true' if name in ('inference_mode', 'use_distributed_sampler') else given}")
    assert done.code == 2
    assert f"trainer.{name}=" in done.err
    assert DECIDED[name][1] in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "trainer.strategy=fsdp": "trainer.strategy=fsdp is not known to zoo.train; use auto, ddp or ddp_find_unused_parameters_true.",
    "trainer.strategy=ddp_spawn": "is not known to zoo.train",
    "trainer.accelerator=mps": "MPS does not have",
    "trainer.accelerator=tpu": "is not known to zoo.train; use auto, cpu",
    "trainer.precision=bf16-true": "is not known to zoo.train; use auto, 32-true",
    "trainer.precision=64": "trainer.precision=64 is not known to zoo.train; use auto, 32-true, bf16-mixed or 16-mixed.",
    "trainer.limit_val_batches=0 callbacks=early_stopping": "callbacks.early_stopping watches val/mse, and trainer.limit_val_batches=0",
    "trainer.max_time=01:00:00": "must be DD:HH:MM:SS",
    "trainer.max_steps=0": "at least 1",
    "trainer.max_epochs=-1": "must be a whole number of at least 1",
    "trainer.limit_train_batches=1.5": "trainer.limit_train_batches=1.5",
    "trainer.gradient_clip_algorithm=size": "use norm or value, or null",
    "trainer.profiler=fast": "use simple, advanced or pytorch, or null",
    "trainer.max_epoch=3": "did you mean 'trainer.max_epochs'?",
    "trainer.max_epochs=1 max_images=64": "max_images and trainer.max_epochs say the same thing; give only one of them.",
    "trainer.val_check_interval=2 val_every_images=64": "say the same thing",
    "trainer.log_every_n_steps=2 log_every_images=64": "say the same thing",
    "trainer.val_check_interval=3 trainer.accumulate_grad_batches=2": "make it a multiple of 2",
    "trainer.limit_train_batches=0.5 trainer.accumulate_grad_batches=2": "make it a multiple of 2",
}


def untyped(tiny):
    """The overrides of a tiny run without its length and its intervals."""
    return [o for o in tiny if not o.startswith(("max_images", "val_every", "log_every", "checkpoint_every"))]


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_cannot_be_is_one_sentence(zoo, tiny, tmp_path, overrides):
    done = zoo("train", *untyped(tiny), *overrides.split())
    assert done.code == 2
    assert REFUSED[overrides] in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_lightning_refuses_is_its_own_sentence(zoo, tiny):
    done = zoo("train", *tiny, "trainer.limit_val_batches=0.01")
    assert done.code == 2
    assert done.err.startswith("zoo: You requested to check 0.01 of the `val_dataloader`")
    assert len(done.err.strip().splitlines()) == 1


def rows(run):
    with open(run / "metrics.csv") as file:
        return list(csv.DictReader(file))


def test_length_and_intervals_in_lightnings_words(zoo, tiny, tmp_path):
    """36 images in batches of 8 are 4 steps an epoch."""
    given = ["trainer.max_epochs=3", "trainer.val_check_interval=5", "trainer.log_every_n_steps=3", "trainer.limit_val_batches=1"]
    done = zoo("train", *untyped(tiny), *given, "model=vae", "evaluation.samples=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    found = rows(tmp_path / "run")
    assert [int(row["step"]) for row in found if row["train/loss"]] == [2, 5, 8, 11]
    assert [int(row["step"]) for row in found if row["val/loss"]] == [4, 9, 11]
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["max_images"] == 96
    assert config["trainer"]["max_epochs"] is None
    assert zoo("train", "resume=run", "trainer.max_epochs=4").code == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["images_seen"] == 128


def test_shares_of_epochs(zoo, tiny, tmp_path):
    given = ["trainer.max_steps=8", "trainer.val_check_interval=0.5", "trainer.limit_train_batches=0.5"]
    assert zoo("train", *untyped(tiny), *given, "evaluation.samples=0", "hydra.run.dir=run").code == 0
    assert [int(row["step"]) for row in rows(tmp_path / "run") if row["val/loss"]] == [0, 1, 2, 3, 4, 5, 6, 7]
    given = ["trainer.max_steps=9", "trainer.check_val_every_n_epoch=2"]
    assert zoo("train", *untyped(tiny), *given, "evaluation.samples=0", "hydra.run.dir=two").code == 0
    assert [int(row["step"]) for row in rows(tmp_path / "two") if row["val/loss"]] == [7, 8]


def test_a_setting_of_the_zoo_that_was_typed_wins_over_a_files(tiny):
    """As where an experiment's file sets trainer.max_epochs."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = check(hydra.compose("train", [*untyped(tiny), "trainer.max_epochs=9", "max_images=16"]))
    typed, of_file = resolve_config(settings, ["max_images=16"]), resolve_config(settings)
    assert (typed.max_images, typed.trainer.max_epochs) == (16, None)
    assert (of_file.max_images, of_file.trainer.max_epochs) == (9 * 32, None)


def test_without_validation_there_is_none(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, "trainer.limit_val_batches=0", "evaluation.samples=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert not any(name.startswith("val/") for name in rows(tmp_path / "run")[0])
    assert (tmp_path / "run/checkpoints/000000000064.ckpt").exists()


@pytest.mark.parametrize("model", ["vae", "gan"])
def test_lightnings_fast_dev_run_keeps_nothing(zoo, tiny, tmp_path, model):
    done = zoo("train", *tiny, f"model={model}", "trainer.fast_dev_run=2", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert "nothing is kept" in done.out
    assert list(tmp_path.iterdir()) == []


def test_what_watches(zoo, tiny, tmp_path):
    given = [
        "trainer.profiler=simple",
        "trainer.detect_anomaly=true",
        "trainer.num_sanity_val_steps=2",
        "trainer.enable_model_summary=true",
    ]
    done = zoo("train", *tiny, *given, "trainer.enable_progress_bar=false", "evaluation.samples=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert "run_training_batch" in (tmp_path / "run/fit-profile.txt").read_text()
    assert "fit-profile.txt" in done.out
    assert "Total params" in done.out
    assert [int(row["step"]) for row in rows(tmp_path / "run") if row["val/loss"]] == [3, 7]


def test_gradients_are_clipped_by_value_in_each_group(tmp_path):
    largest = {}

    class Look(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            for group in optimizer.param_groups:
                gradients = [p.grad.abs().max() for p in group["params"] if p.grad is not None]
                if gradients:
                    largest.setdefault(group["name"], []).append(torch.stack(gradients).max().item())

    model = VAEGAN(**SMALL)
    fit = trainer(tmp_path, max_epochs=2, callbacks=[Look()], gradient_clip_val=1e-4, gradient_clip_algorithm="value")
    fit.fit(model, loader())
    assert len(largest) > 1
    assert all(max(found) == pytest.approx(1e-4) for found in largest.values())
    assert all(norm > 1e-4 for norm in model.gradient_norms.values())  # what is logged is the norm before
