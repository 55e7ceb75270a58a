import json
from pathlib import Path

import pytest

from tests.comparison.runs import SUMMARY, records
from zoo.comparison import baseline
from zoo.comparison.baseline import HERE, rows_of
from zoo.errors import ZooError
from zoo.results import rows as published_rows
from zoo.results.rows import add, row_of
from zoo.results.tables import markdown, overview, renew_pages, with_tables

ROOT = Path(__file__).parents[2]


def row(seed: int, frechet: float, model: str = "vae", settings: str = "") -> dict:
    return {
        "seed": seed,
        "command": f"python -m zoo.train model={model}{settings}",
        "model": model,
        "data": "mnist",
        "measured": {"images_sha256": "ab" * 32, "split": "test", "seed": 0},
        "features": {"classifier": {"name": "classifier", "sha256": "f"}},
        "trained_with": {"commit": "abc"},
        "versions": {"commit": "def"},
        "measurements": records({"samples/normal/frechet": frechet, "reconstructions/mse": 0.5}),
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
    counts = set()
    for one in rows:
        assert one["command"].startswith("python -m zoo.train ")
        assert "/" not in one["command"]
        assert one["measured"]["split"] == "test"
        assert {"commit", "torch"} <= set(one["versions"])
        others = [record for record in one["measurements"] if record["group"] != "invariance"]  # which takes no more of any
        counts.add(any(record["n"] == 2000 for record in others))
    assert len(counts) == len({one["data"] for one in rows}) == 1
    labels = [line.label for line in baseline.published(rows)]
    assert not [label for label in labels if label.endswith(")")]  # all are told apart by settings
    assert len({*labels}) == len({one["command"] for one in rows})
    assert len({(one["command"], one["seed"]) for one in rows}) == len(rows)
    assert len({one["measured"]["images_sha256"] for one in rows}) == 1
    assert len({one["features"]["classifier"]["sha256"] for one in rows}) == 1


def test_rows_of_one_command_are_one_line():
    text = markdown([*(row(seed, 1.0 + 2 * seed, settings=" model.gamma=0.2") for seed in (0, 1)), row(0, 7.0, "ae")])
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
        ({"measurements": records({"samples/normal/frechet@2000": 1.0})}, "N is 10,000 in vae"),
    ],
)
def test_what_was_measured_otherwise_is_not_published_beside(here, tmp_path, change, what):
    (here / "mnist.json").write_text(json.dumps([row(0, 1.0)]))
    run = tmp_path / "run"
    evaluated(run, row(1, 2.0) | change)
    with pytest.raises(ZooError, match=f"run cannot be published beside 'python -m zoo.train model=vae': {what}"):
        add([run])
    evaluated(run, row(1, 2.0))
    add([run])
    assert [one["seed"] for one in rows_of("mnist")] == [0, 1]


OTHER_N = {"measurements": records({"samples/normal/frechet@2000": 1.0})}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder for the published rows."""
    folder = tmp_path / "zoo" / "results"
    folder.mkdir(parents=True)
    for module in (baseline, published_rows):
        monkeypatch.setattr(module, "HERE", folder)
    return folder


def evaluated(run: Path, about: dict) -> Path:
    """A run that was evaluated, with the numbers of this row."""
    run.mkdir(exist_ok=True)
    about = about | {"format": 2, "command": f"{about['command']} seed={about['seed']}", "images_seen": 1, "parameters": 1, "latent_dim": 1}
    for name, content in {"cost": {"machine": "x"}, "evaluation": about, "summary": SUMMARY}.items():
        (run / f"{name}.json").write_text(json.dumps(content))
    return run


def test_a_run_that_is_measured_again_replaces_its_row(here, tmp_path):
    (here / "mnist.json").write_text(json.dumps([row(0, 1.0) | OTHER_N]))
    add([evaluated(tmp_path / "run", row(0, 2.0))])
    assert [one["measurements"][0]["value"] for one in rows_of("mnist")] == [2.0]


def test_runs_that_are_measured_again_together_replace_their_rows_and_no_others(here, tmp_path):
    """A row that stays, and the rows of refused runs, keep out what does not fit beside them."""
    runs = [evaluated(tmp_path / f"run{seed}", row(seed, 2.0)) for seed in (0, 1)]
    old = [row(seed, 1.0) | OTHER_N for seed in (0, 1)]
    (here / "mnist.json").write_text(json.dumps([*old, row(0, 1.0, "ae") | OTHER_N]))
    with pytest.raises(ZooError, match=r"run0 cannot be published beside 'python -m zoo.train model=ae': .* Refused in all: 2"):
        add(runs)
    assert [one["measurements"] for one in rows_of("mnist")] == [OTHER_N["measurements"]] * 3
    (here / "mnist.json").write_text(json.dumps(old))
    evaluated(runs[1], row(1, 2.0) | OTHER_N)
    with pytest.raises(ZooError, match="run1 cannot be published beside"):
        add(runs)
    assert [one["measurements"] for one in rows_of("mnist")] == [OTHER_N["measurements"]] * 2
    evaluated(runs[1], row(1, 2.0))
    add(runs)
    assert [one["measurements"][0]["value"] for one in rows_of("mnist")] == [2.0, 2.0]


def test_one_refused_run_keeps_no_other_out(here, tmp_path):
    with pytest.raises(ZooError, match="evaluate it first"):
        add([tmp_path / "nothing", evaluated(tmp_path / "run", row(0, 2.0))])
    assert len(rows_of("mnist")) == 1


def test_a_folder_that_cannot_be_written_to_is_one_sentence(here, tmp_path, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "no")

    monkeypatch.setattr(published_rows, "write_atomically", refuse)
    with pytest.raises(ZooError, match=r"mnist.json cannot be written \(Permission denied\); publish from a checkout"):
        add([evaluated(tmp_path / "run", row(0, 2.0))])


def test_the_pages_of_a_checkout_get_new_tables(here, tmp_path):
    (here / "mnist.json").write_text(json.dumps([row(0, 2.5)]))
    page = tmp_path / "README.md"  # beside the package; zoo/results/README.md is not there
    page.write_text("before <!-- overview:mnist -->\nold\n<!-- /overview --> after")
    renew_pages()
    text = page.read_text()
    assert text.startswith("before <!-- overview:mnist -->\n\n| model |")
    assert "\n| vae | normal | 2.500 |" in text
    assert text.endswith("<!-- /overview --> after")


def test_commands_that_differ_have_different_names():
    settings = ["", " optimizer.lr=1e-3", " max_images=9_000", " model/flow=residual", " optimizer.lr=1e-3 max_images=9_000"]
    rows = [row(seed, 1.0, "two_stage", own) for own in settings for seed in (0, 1)]
    labels = [line.label for line in baseline.published([*rows, row(0, 1.0, "vae", " model.beta=4 max_images=9_000")])]
    assert labels == [
        "two_stage",
        "two_stage lr=1e-3",
        "two_stage max_images=9_000",
        "two_stage flow=residual",
        "two_stage lr=1e-3 max_images=9_000",
        "vae beta=4",
    ]


def test_a_run_that_was_not_evaluated_is_one_sentence(tmp_path):
    with pytest.raises(ZooError, match="evaluate it first"):
        row_of(tmp_path)


def test_a_row_holds_no_path_of_the_machine(tmp_path):
    command = "python -m zoo.train data=mnist data.root=/home/me/data model=vae model.gamma=0.2 seed=3 logger=none hydra.run.dir=/tmp/x"
    evaluation = {
        "model": "vae", "data": "mnist", "command": command, "seed": 3, "images_seen": 1, "parameters": 1, "latent_dim": 1, "measured": {},
        "features": {}, "measurements": [], "format": 2, "trained_with": {}, "versions": {},
    }  # fmt: skip
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    (tmp_path / "cost.json").write_text('{"machine": "x"}')
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    found = row_of(tmp_path)
    assert found["command"] == "python -m zoo.train data=mnist data.root=DIR model=vae model.gamma=0.2"
    assert found["seed"] == 3
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {"images_seen": 2}))
    with pytest.raises(ZooError, match="trained further after it was evaluated"):
        row_of(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation | {"command": f"{command}; then resume=RUN max_images=9"}))
    with pytest.raises(ZooError, match="resumed with other settings"):
        row_of(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation | {"format": 1}))
    with pytest.raises(ZooError, match=r"evaluation.json is of format 1, not 2 \(evaluate it again with python -m zoo.evaluate run=RUN\)"):
        row_of(tmp_path)


def test_no_rows_no_table():
    assert rows_of("nothing") == []
    assert markdown([]) == overview([]) == ""


def test_the_overview_takes_each_model_with_its_best_prior_the_best_model_first():
    rows = [row(seed, 4.0 + seed, "ae") for seed in (0, 1)] + [row(0, 3.0, "vae")]
    for seed in (0, 1):
        rows[seed]["measurements"] += records({"samples/mixture/frechet": 1.0 + seed})
    lines = [line.split(" | ")[:3] for line in overview(rows).splitlines() if line.startswith("|")]
    assert lines[0] == ["| model", "best prior", "Fréchet, best prior ↓"]
    assert lines[2:] == [["| ae", "mixture", "1.500 ± 0.707"], ["| vae", "normal", "3.000 (n = 1)"]]


def test_rows_can_lie_in_a_file_of_another_name(here, tmp_path):
    add([evaluated(tmp_path / "run", row(1, 2.0))], "small")
    assert len(rows_of("small")) == 1
    assert rows_of("mnist") == []
