"""CONTRIBUTING.md adds a model; whoever follows it gets one."""

import json
import re
from pathlib import Path

import pytest

import zoo.models

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The files of the text, in a folder of their own that the zoo sees."""
    for name, content in FILES.items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(zoo.models, "__path__", [*zoo.models.__path__, str(tmp_path / "theirs/zoo/models")])
    return tmp_path / "theirs"


def test_the_model_of_the_text_trains(written, zoo, tiny, tmp_path):
    assert sorted(FILES) == ["bars.py", "conf/model/dae.yaml", "tests/models/test_dae.py", "zoo/models/dae.py"]
    assert "`conf/experiment/compare.yaml` and `compare_full.yaml`" in TEXT  # which tests/results demand of every model
    done = zoo("train", *tiny, f"hydra.searchpath=[file://{written}/conf]", "model=dae", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/summary.json").read_text())["model"] == "dae"
    refused = zoo("train", *tiny, f"hydra.searchpath=[file://{written}/conf]", "model=dae", "model.sigma=-1", "hydra.run.dir=other")
    assert refused.code == 2
    assert "model.sigma=-1 is a standard deviation" in refused.err


def test_the_test_of_the_text_passes(written):
    space: dict = {}
    exec((written / "tests/models/test_dae.py").read_text(), space)
    tests = [found for name, found in space.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()
    space["DenoisingAE"].losses = lambda self, batch: {"loss": batch.image.mean()}
    with pytest.raises(AssertionError):
        tests[0]()


def test_the_data_set_of_the_text_is_trained_on(written, zoo, tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(written)
    own = [override for override in tiny if not override.startswith("data")]
    (command,) = re.findall(r"python -m zoo.train (data=custom .*)", TEXT)
    done = zoo("train", *own, *command.replace("6400", "640").split(), "evaluation.samples=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/summary.json").read_text())["data"] == "bars"
    monkeypatch.setattr("zoo.config.instantiate._trusted", set())
    assert "add trusted=[bars]" in zoo("generate", "run=run", "mode=reconstructions", "count=4").err
    assert zoo("generate", "run=run", "mode=reconstructions", "count=4", "trusted=[bars]").code == 0
