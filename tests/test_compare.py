import csv
import json
from pathlib import Path

import pytest
import yaml

from tests.comparison.runs import make_run
from zoo.compare import folder_for, name_runs


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["a", "b/c"], ["runs=['a',b/c]"]),
        (["sort=mse", "a b"], ["sort=mse", "runs=['a b']"]),
        (["it's"], ["runs=['it\\'s']"]),
        (["--cfg", "job", "a"], ["--cfg", "job", "runs=['a']"]),
        (["--help"], ["--help"]),
        (["0-model=ae,seed=0", "out=x"], ["out=x", "runs=['0-model=ae,seed=0']"]),  # there is such a folder
        (["1-model=ae,seed=0"], ["1-model=ae,seed=0"]),  # and no such one
    ],
)
def test_arguments_that_are_paths_name_runs(typed, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0-model=ae,seed=0").mkdir()
    argv = ["zoo.compare", *typed]
    name_runs(argv)
    assert argv[1:] == meant


def test_a_comparison_of_unrelated_folders_goes_where_one_works(tmp_path, monkeypatch):
    here, away = tmp_path / "here", tmp_path / "away"
    for folder in ("here/x/a", "here/y/b", "away/a", "away/b"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(here)
    assert folder_for([Path("x/a")]) == here / "x/a"
    assert folder_for([Path("x/a"), Path("y/b")]) == here
    assert folder_for([away]) == folder_for([away, away / "a"]) == away
    assert folder_for([away / "a", away / "b"]) == here  # nobody named what is above them
    assert folder_for([Path("x"), away]) == here


def test_a_real_run_beside_others(zoo, tiny, tmp_path):
    assert zoo("train", "model=ae", *tiny, "hydra.run.dir='runs/0-model=ae,seed=0'").code == 0
    data = yaml.safe_load(Path("runs/0-model=ae,seed=0/config.yaml").read_text())["data"]
    make_run(tmp_path / "runs/1-model=vae,seed=0", metrics={"mse": 0.001, "images": 4.0}, config={"data": data})
    found = zoo("compare", "runs")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("vae, ae on mnist\n")
    assert "split val, image size 28×28" in found.out
    assert [line.split() for line in found.out.splitlines()[-3:]] == [
        ["numbers:", "runs/compare.csv"],
        ["tables:", "runs/compare.md"],
        ["report:", "runs/report.html"],
    ]
    rows = {(row["row"], row["metric"]): row for row in csv.DictReader(Path("runs/compare.csv").read_text().splitlines())}
    summary = json.loads(Path("runs/0-model=ae,seed=0/summary.json").read_text())
    assert float(rows["ae latent_dim=4 width=16", "mse"]["mean"]) == summary["metrics"]["val/mse"]
    assert float(rows["ae latent_dim=4 width=16", "cost/images_seen"]["mean"]) == 64
    assert "data:image/" in Path("runs/report.html").read_text()  # pictures
    one = zoo("compare", "runs/0-model=ae,seed=0", "out=there", "report=false", "baseline=zoo")
    assert (one.code, one.err) == (0, "")
    assert sorted(path.name for path in Path("there").iterdir()) == ["compare.csv", "compare.md"]
    assert "zoo's rows are of the test split" in one.out


def test_mistakes_are_one_sentence(zoo, tmp_path):
    make_run(tmp_path / "a", metrics={"mse": 1.0, "images": 100.0})
    make_run(tmp_path / "b", metrics={"mse": 1.0, "images": 200.0})
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        ([], "Name what to compare"),
        (["nowhere"], "nowhere is not a folder"),
        (["."], "These runs cannot be compared: N is 100 in a and 200 in b;"),
        (["a", "splitt=val"], "There is no setting 'splitt'; did you mean 'split'?"),
        (["a", "dashboard=mlflow"], "dashboard=mlflow is not known; use wandb, or null."),
        (["a", "out=file"], "out=file is a file; name a folder."),
    ):
        found = zoo("compare", *arguments)
        assert (found.code, found.out) == (2, ""), arguments
        assert found.err.startswith(f"zoo: {sentence}")
        assert found.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "file"]


def test_a_run_still_training_is_shown_as_such(zoo, tmp_path):
    make_run(tmp_path / "a")
    found = zoo("compare", "a", "report=false")
    assert found.code == 0
    assert "training" in found.out


def test_help(zoo, capsys):
    found = zoo("compare", "--help")
    assert found.code == 0
    assert "PATH is a run, a sweep or any folder above runs" in found.out
    assert "baseline=zoo" in found.out
