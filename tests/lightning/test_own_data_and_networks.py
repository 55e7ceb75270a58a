"""Backbones and data sets of one's own; and what is trusted, on every command and in every job of a sweep."""

import sys

import hydra
import pytest

import zoo as package
from zoo.config import instantiate
from zoo.config.instantiate import conf_dir, take_trusted

MINE = """
import numpy as np
import pytorch_lightning as pl
from torch import nn

from zoo.data.source import Chunk, Listing, Source


class Net:
    def __init__(self, image_size, channels, width=8):
        self.image_shape, self.width, self.values = (channels, image_size, image_size), width, channels * image_size**2

    def encoder(self, n):
        return nn.Sequential(nn.Flatten(), nn.Linear(self.values, self.width), nn.SiLU(), nn.Linear(self.width, n))

    def decoder(self, n):
        return nn.Sequential(nn.Linear(n, self.values), nn.Tanh(), nn.Unflatten(1, self.image_shape))


class Nameless(Source):
    channels, attribute_names = 1, ()

    def __init__(self, image_size, images=80):
        self.image_size, self.images = image_size, images

    def settings(self):
        return {"images": self.images, "size": self.image_size}

    def scan(self):
        splits = np.array([0, 0, 0, 1, 2], np.uint8)[np.arange(self.images) % 5]
        return Listing([str(row) for row in range(self.images)], splits, np.zeros((self.images, 0), np.uint8))

    def read(self, start, stop):
        shape = (stop - start, 1, self.image_size, self.image_size)
        return Chunk(np.random.default_rng(start).integers(0, 256, shape, dtype=np.uint8))


class Noise(Nameless):
    name = "noise"


class Module(pl.LightningDataModule):
    def __init__(self, image_size):
        super().__init__()
"""
NET = ["model=ae", "model/backbone=custom", "model.backbone._target_=mine.Net", "+model.backbone.width=12"]
NOISE = ["data=custom", "data.source._target_=mine.Noise", "data.channels=1", "data.image_size=16", "+data.source.images=100"]
SHORT = ["logger=none", "batch_size=8", "max_images=64", "checkpoint_every_images=16", "evaluation.samples=0", "model.latent_dim=4"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file mine.py in the current folder. Forgets what is trusted."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(instantiate, "_trusted", set())


def forget():
    instantiate._trusted.clear()


def test_networks_and_data_of_ones_own_train_resume_and_are_loaded(own, zoo, tmp_path):
    done = zoo("train", *SHORT, *NET, *NOISE, "hydra.run.dir=run")
    assert done.code == 0, done.err
    forget()
    assert "add trusted=[mine]" in zoo("train", "resume=run", "max_images=96").err
    forget()
    assert zoo("train", "resume=run", "max_images=96", "trusted=[mine]").code == 0
    forget()
    assert "add trusted=[mine]" in zoo("generate", "run=run", "mode=reconstructions", "count=2").err
    assert zoo("generate", "run=run", "mode=reconstructions", "count=2", "trusted=[mine.Net,mine.Noise]").code == 0
    forget()
    assert package.load("run", trusted=["mine"]).encoder[1].out_features == 12


WRONG = {
    (
        "data.source._target_=mine.Net",
        "~data.source.images",
        "+data.source.channels=1",
    ): "mine.Net is no subclass of zoo.data.source.Source; see",
    ("data.source._target_=mine.Module", "~data.source.images"): "is no subclass of zoo.data.source.Source; train with your own Trainer",
    ("data.source._target_=mine.Nameless",): "mine.Nameless has no name; zoo/data/source.py says",
    ("+data.source.image=3",): "mine.Noise takes no argument 'image'; did you mean 'images'?",
    ("data.source._target_=???",): "The setting data.source._target_ has no default; give data.source._target_=",
    ("data.source._target_=mine.Nose",): "mine.Nose', which does not exist",
    ("model.backbone._target_=mine.Noise", "~model.backbone.width", "~model.backbone.channels"): "image_shape",
    ("+model.backbone.widht=3",): "mine.Net takes no argument 'widht'; did you mean 'width'?",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(own, zoo, tmp_path, overrides):
    done = zoo("train", *SHORT, *NET, *NOISE, *overrides, "hydra.run.dir=run")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert WRONG[overrides] in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_prepare_builds_the_store_of_data_of_ones_own_from_the_current_folder(shell, tmp_path):
    """A process of its own: nothing but python -m finds mine.py."""
    (tmp_path / "mine.py").write_text(MINE)
    process = shell("prepare", *NOISE, "paths.cache=stores")
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    assert "100 images of 1×16×16 (60 train, 20 val, 20 test)" in output


@pytest.mark.parametrize("command", ["train", "evaluate", "generate", "compare", "prepare", "bench"])
def test_each_command_takes_what_is_trusted(own, command):
    needed = {"evaluate": ["run=x"], "generate": ["run=x"]}.get(command, [])
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose(command, [*needed, "trusted=[mine,other.Thing]"])
    assert take_trusted(config) == ["mine", "other.Thing"]
    assert "trusted" not in config
    assert instantiate._trusted == {"mine", "other.Thing"}
