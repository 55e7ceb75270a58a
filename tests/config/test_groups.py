"""Every file of every group can be chosen, and gives settings that can be checked."""

import hydra
import pytest
from omegaconf import OmegaConf

from zoo.config.check import check
from zoo.config.instantiate import conf_dir

# What a choice needs beside itself.
WITH = {
    "model=custom": ["model._target_=my.Model"],
    "optimizer=custom": ["optimizer._target_=my.Optimizer"],
    "scheduler=custom": ["scheduler._target_=my.Scheduler"],
    "model/backbone=custom": ["model.backbone._target_=my.Backbone"],
    "data=custom": ["data.source._target_=my.Source"],
    "model/flow=": ["model=two_stage"],
    "pretrain=autoencoder": ["model=two_stage"],
    "pretrain=vae": ["model=gan"],
    "features=": None,  # of zoo.evaluate
    "hydra/": None,  # Hydra's own, composed by each command
    "experiment=": None,  # tests/config/test_instantiate.py
}
FILES = [path.relative_to(conf_dir()).with_suffix("") for path in sorted(conf_dir().glob("*/**/*.yaml"))]
CHOICES = [f"{path.parent}={path.name}" for path in FILES]


def beside(choice):
    return next((WITH[start] for start in WITH if choice.startswith(start)), [])


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if beside(choice) is not None])
def test_each_file_of_each_group_composes(choice):
    root = ["data.root=DIR"] if choice.startswith("data=") and not choice.endswith(("=faces", "=lines", "=custom")) else []
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", [*beside(choice), choice, *root])
    assert check(OmegaConf.create(config)).max_images


@pytest.mark.parametrize("group", ["callbacks", "logger"])
def test_each_file_holds_one_node_of_its_name_and_several_can_be_chosen(group):
    names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    nodes = [name for name in names if name not in ("default", "none")]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for name in names:
            assert [*hydra.compose("train", [f"{group}={name}"])[group]] == [name] * (name in nodes)
        assert sorted(hydra.compose("train", [f"{group}=[{','.join(nodes)}]"])[group]) == nodes
