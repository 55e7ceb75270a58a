"""The group `paths`: where data, runs and stores lie, by setting or environment variable."""

from pathlib import Path

import pytest


@pytest.fixture
def own(tiny):
    """Overrides for a second of training, without data.root."""
    return [override for override in tiny if not override.startswith("data.root=")] + ["evaluation.samples=0"]


def test_data_are_found_below_zoo_data(zoo, own, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(digits))
    assert zoo("train", *own, "hydra.run.dir=run").code == 0
    assert f"root: {digits}\n" in (tmp_path / "run/config.yaml").read_text()
    assert "paths" not in (tmp_path / "run/config.yaml").read_text()
    monkeypatch.setenv("ZOO_DATA", "/nowhere")
    missing = zoo("prepare", "data=celeba")
    assert missing.code == 2
    assert "/nowhere/celeba" in missing.err
    assert zoo("prepare", "data=mnist", f"paths.data={digits}").code == 0


@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize("data", ["celeba", "mnist", "folder"])
def test_without_zoo_data_the_folder_is_asked_for(zoo, tmp_path, command, data):
    done = zoo(command, f"data={data}")
    assert done.code == 2
    assert "The setting data.root has no default; give data.root=DIR" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def runs_below(folder: str) -> list[Path]:
    return [path.parent for path in Path(folder).glob("**/config.yaml") if "wandb" not in path.parts]


def test_runs_go_where_they_are_sent_and_latest_finds_them(zoo, tiny, monkeypatch):
    assert zoo("train", *tiny, "evaluation.samples=0", "paths.runs=elsewhere").code == 0
    (run,) = runs_below("elsewhere")
    again = zoo("train", "resume=latest", "paths.runs=elsewhere", "max_images=96")
    assert again.code == 0, again.err
    assert "96" in (run / "summary.json").read_text()
    assert zoo("train", "resume=latest").code == 2
    monkeypatch.setenv("ZOO_RUNS", "elsewhere")
    assert zoo("generate", "run=latest", "count=4").code == 0
    assert [*(run / "generated").iterdir()]
    assert not Path("runs").exists()


def test_stores_go_where_they_are_sent(zoo, own, digits):
    assert zoo("prepare", "data=mnist", f"data.root={digits}", "paths.cache=stores").code == 0
    assert [*Path("stores").glob("*/manifest.json")]


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_all_settings_are_shown_whatever_is_set(zoo, command):
    shown = zoo(command, "--cfg", "job", "--resolve")
    assert shown.code == 0, shown.err
    assert "data: ???" in shown.out.replace("'", "")
