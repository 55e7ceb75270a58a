import json
from pathlib import Path

import pytest

from zoo.comparison import baseline
from zoo.comparison.baseline import HERE, rows_of
from zoo.errors import ZooError
from zoo.results import rows as published_rows
from zoo.results.__main__ import with_tables
from zoo.results.rows import add, row_of
from zoo.results.tables import markdown, overview

ROOT = Path(__file__).parents[2]


def row(seed: int, frechet: float, label: str = "vae gamma=0.2") -> dict:
    return {
        "label": label,
        "seed": seed,
        "command": f"python -m zoo.train {label}",
        "model": "vae",
        "data": "mnist",
        "measured": {"images_sha256": "ab" * 32, "split": "test", "seed": 0},
        "features": {"classifier": {"name": "classifier", "sha256": "f"}},
        "trained_with": {"commit": "abc"},
        "versions": {"commit": "def"},
        "metrics": {"samples/normal/frechet": frechet, "reconstructions/mse": 0.5},
        "cost": {"train/images_per_second": 100.0, "machine": "x"},
    }


@pytest.mark.parametrize("name", ["README.md", "zoo/results/README.md"])
def test_the_tables_are_made_from_the_published_rows(name):
    text = (ROOT / name).read_text()
    assert "<!-- /" in text
    assert with_tables(text) == text, f"run: python -m zoo.results tables {name}"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.json")), ids=lambda path: path.stem)
def test_published_rows_are_whole_and_private_to_no_machine(path):
    rows = json.loads(path.read_text())
    assert rows
    for one in rows:
        assert one["data"] == {"compare": "faces", "compare_full": "faces"}.get(path.stem, path.stem)
        assert one["command"].startswith("python -m zoo.train ")
        assert "/" not in one["command"]
        assert one["measured"]["split"] == "test"
        assert {"commit", "torch"} <= set(one["versions"])
        few = [name for name in one["metrics"] if "@2000" in name and not name.startswith("invariance/")]  # which takes no more of any
        assert bool(few) == (path.stem == "compare")
    assert len({(one["label"], one["seed"]) for one in rows}) == len(rows)
    assert len({one["measured"]["images_sha256"] for one in rows}) == 1
    assert len({one["features"]["classifier"]["sha256"] for one in rows}) == 1


def test_rows_of_one_command_are_one_line():
    text = markdown([row(0, 1.0), row(1, 3.0), row(0, 7.0, "ae")])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| model | prior | Fréchet ↓ |"
    assert lines[2] == "| vae gamma=0.2 | normal | 2.000 ± 1.414 |"
    assert lines[3] == "| ae | normal | 7.000 (n = 1) |"
    assert "seed=0,1; trained at abc, measured at def" in text
    assert lines[4] == "| model | mse ↓ |"
    assert lines[6:] == ["| vae gamma=0.2 | 0.50000 ± 0.00000 |", "| ae | 0.50000 (n = 1) |"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"measured": {"images_sha256": "cd" * 32, "split": "test", "seed": 0}}, "the set of images is abababababab in vae"),
        ({"measured": {"images_sha256": "ab" * 32, "split": "test", "seed": 1}}, "seed of the evaluation is 0 in vae"),
        ({"features": {"classifier": {"name": "classifier", "sha256": "e"}}}, "features is classifier f in vae"),
        ({"metrics": {"samples/normal/frechet@2000": 1.0}}, "N is 10,000 in vae"),
    ],
)
def test_what_was_measured_otherwise_is_not_published_beside(tmp_path, monkeypatch, change, what):
    monkeypatch.setattr(baseline, "HERE", tmp_path)
    monkeypatch.setattr(published_rows, "HERE", tmp_path)
    (tmp_path / "mnist.json").write_text(json.dumps([row(0, 1.0)]))
    run = tmp_path / "run"
    run.mkdir()
    about = row(1, 2.0, "vae") | {"command": "python -m zoo.train model=vae seed=1", "images_seen": 1, "parameters": 1, "latent_dim": 1}
    (run / "cost.json").write_text("{}")
    (run / "summary.json").write_text('{"images_seen": 1}')
    (run / "evaluation.json").write_text(json.dumps(about | change))
    with pytest.raises(ZooError, match=f"run cannot be published beside 'python -m zoo.train vae gamma=0.2': {what}"):
        add(run)
    (run / "evaluation.json").write_text(json.dumps(about))
    add(run)
    assert [one["seed"] for one in rows_of("mnist")] == [1, 0]


def test_a_run_that_was_not_evaluated_is_one_sentence(tmp_path):
    with pytest.raises(ZooError, match="evaluate it first"):
        row_of(tmp_path)


def test_a_row_holds_no_path_of_the_machine(tmp_path):
    command = "python -m zoo.train data=mnist data.root=/home/me/data model=vae model.gamma=0.2 seed=3 logger=none hydra.run.dir=/tmp/x"
    evaluation = {
        "model": "vae", "data": "mnist", "command": command, "seed": 3, "images_seen": 1, "parameters": 1, "latent_dim": 1, "measured": {},
        "features": {}, "metrics": {}, "trained_with": {}, "versions": {},
    }  # fmt: skip
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    (tmp_path / "cost.json").write_text("{}")
    (tmp_path / "summary.json").write_text('{"images_seen": 1}')
    found = row_of(tmp_path)
    assert found["command"] == "python -m zoo.train data=mnist data.root=DIR model=vae model.gamma=0.2"
    assert (found["label"], found["seed"]) == ("vae gamma=0.2", 3)
    (tmp_path / "summary.json").write_text('{"images_seen": 2}')
    with pytest.raises(ZooError, match="trained further after it was evaluated"):
        row_of(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation | {"command": f"{command}; then resume=RUN budget=9"}))
    with pytest.raises(ZooError, match="resumed with other settings"):
        row_of(tmp_path)


def test_no_rows_no_table():
    assert rows_of("nothing") == []
    assert markdown([]) == overview([]) == ""


def test_the_overview_takes_each_model_with_its_best_prior_the_best_model_first():
    rows = [row(seed, 4.0 + seed, "ae") for seed in (0, 1)] + [row(0, 3.0, "vae")]
    for seed in (0, 1):
        rows[seed]["metrics"]["samples/mixture/frechet"] = 1.0 + seed
    lines = [line.split(" | ")[:3] for line in overview(rows).splitlines() if line.startswith("|")]
    assert lines[0] == ["| model", "best prior", "Fréchet, best prior ↓"]
    assert lines[2:] == [["| ae", "mixture", "1.500 ± 0.707"], ["| vae", "normal", "3.000 (n = 1)"]]


def test_rows_can_lie_in_a_file_of_another_name(tmp_path, monkeypatch):
    for module in (baseline, published_rows):
        monkeypatch.setattr(module, "HERE", tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    about = row(1, 2.0, "vae") | {"command": "python -m zoo.train model=vae seed=1", "images_seen": 1, "parameters": 1, "latent_dim": 1}
    for name, content in {"cost": {}, "evaluation": about, "summary": {"images_seen": 1}}.items():
        (run / f"{name}.json").write_text(json.dumps(content))
    add(run, "small")
    assert len(rows_of("small")) == 1
    assert rows_of("mnist") == []
