"""Classes of one's own and of torch, typed on the command line; and which of them a run's folder may name."""

import csv
import json
import sys

import pytest
import torch

import zoo as package
from zoo.config import instantiate
from zoo.errors import ZooError

MINE = """
from zoo.losses import mean_squared_error
from zoo.models import AE


class Sharper(AE):
    def __init__(self, *args, weight=1.0, **options):
        super().__init__(*args, **options)
        self.weight = weight

    def losses(self, batch):
        return {"loss": self.weight * mean_squared_error(batch.image, self.decode(self.encode(batch.image)))}


class NoModel:
    def __init__(self, **options):
        pass
"""
CUSTOM = ["model=custom", "model._target_=mine.Sharper"]


@pytest.fixture
def own(tiny, tmp_path, monkeypatch):
    """A file mine.py in the current folder; overrides for seconds of training. Forgets what is trusted."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(instantiate, "_trusted", set())
    return [override for override in tiny if not override.startswith("model.")]


def forget():
    instantiate._trusted.clear()


def test_a_model_of_ones_own_is_typed_and_must_be_trusted_when_a_folder_names_it(zoo, own, tmp_path, monkeypatch):
    done = zoo("train", *own, *CUSTOM, "+model.weight=2.0", "model.latent_dim=4", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/summary.json").read_text())["model"] == "custom"
    assert "trusted" not in (tmp_path / "run/config.yaml").read_text()
    forget()
    refused = zoo("evaluate", "run=run", "split=train", "samples=16", "metrics=[mse]")
    assert refused.code == 2
    assert "mine.Sharper" in refused.err
    assert "add trusted=[mine]" in refused.err
    with pytest.raises(ZooError, match="trusted=\\['mine'\\]"):
        package.load("run")
    assert zoo("train", "resume=run", "max_images=96").code == 2
    measured = zoo("evaluate", "run=run", "split=train", "samples=16", "metrics=[mse]", "trusted=[mine]")
    assert measured.code == 0, measured.err
    forget()
    assert package.load("run", trusted=["mine"]).weight == 2.0
    forget()
    assert zoo("train", "resume=run", "max_images=96", "trusted=[mine]").code == 0
    forget()
    monkeypatch.setenv("ZOO_TRUSTED", "other, mine")
    assert package.load("run").weight == 2.0


WRONG = {
    "model._target_=mine.NoModel": "model._target_=mine.NoModel is no model: it must be a subclass of zoo.models.Autoencoder",
    "model._target_=mine.Missing": "mine.Missing",
    "model._target_=nowhere.Model": "nowhere.Model', which does not exist",
    "+model.wieght=3": "mine.Sharper takes no argument 'wieght'; did you mean 'weight'?",
    "model._target_=os.system": "may not be instantiated",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_no_model_is_one_sentence(zoo, own, tmp_path, override):
    done = zoo("train", *own, *CUSTOM, override, "hydra.run.dir=run")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert WRONG[override] in done.err
    assert not (tmp_path / "run").exists()


OPTIMIZERS = {"SGD": ["+optimizer.momentum=0.9"], "NAdam": [], "Adagrad": [], "Adafactor": [], "AdamW": ["+optimizer.amsgrad=true"]}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_of_torch(zoo, own, tmp_path, name):
    optimizer = ["optimizer=custom", f"optimizer._target_=torch.optim.{name}", *OPTIMIZERS[name]]
    done = zoo("train", *own, "model=ae", "evaluation.samples=0", *optimizer, "hydra.run.dir=run")
    assert done.code == 0, done.err
    refused = zoo("train", *own, "model=ae", *optimizer, "+optimizer.momentun=1", "hydra.run.dir=other")
    assert refused.code == 2
    assert "momentun" in refused.err
    assert not (tmp_path / "other").exists()


STEP = "torch.optim.lr_scheduler"
SCHEDULERS = {
    "StepLR": ["+scheduler.step_size=3", "+scheduler.gamma=0.5"],
    "OneCycleLR": ["+scheduler.max_lr=0.01", "+scheduler.total_steps=9"],
    "CosineAnnealingWarmRestarts": ["+scheduler.T_0=3"],
    "ReduceLROnPlateau": ["+scheduler.patience=0", "+scheduler.factor=0.5", "+scheduler.threshold=0.9", "val_every_images=8"],
    "SequentialLR": [
        "+scheduler.milestones=[3]",
        f"+scheduler.schedulers=[{{_target_:{STEP}.ConstantLR,factor:0.5}},{{_target_:{STEP}.ExponentialLR,gamma:0.7}}]",
    ],
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_of_torch_and_an_exact_resume(zoo, own, tmp_path, name):
    scheduler = ["scheduler=custom", f"scheduler._target_={STEP}.{name}", *SCHEDULERS[name]]
    settings = [*own, "model=ae", "evaluation.samples=0", "keep_last_k=9", *scheduler]
    done = zoo("train", *settings, "hydra.run.dir=whole")
    assert done.code == 0, done.err
    assert zoo("train", *settings, "hydra.run.dir=cut").code == 0
    whole = torch.load(tmp_path / "whole/checkpoints/000000000064.ckpt", weights_only=True)
    for path in (tmp_path / "cut/checkpoints").iterdir():
        if not path.name.startswith("000000000032"):
            path.unlink()
    assert zoo("train", "resume=cut").code == 0
    cut = torch.load(tmp_path / "cut/checkpoints/000000000064.ckpt", weights_only=True)
    assert all(torch.equal(value, cut["state_dict"][key]) for key, value in whole["state_dict"].items())
    assert whole["lr_schedulers"] == cut["lr_schedulers"]
    with open(tmp_path / "whole/metrics.csv") as file:
        assert len({row["train/learning_rate/autoencoder"] for row in csv.DictReader(file)}) > 1
    refused = zoo("train", *settings, "+scheduler.stepsize=1", "hydra.run.dir=other")
    assert refused.code == 2
    assert f"The scheduler {STEP}.{name} does not take these settings" in refused.err
