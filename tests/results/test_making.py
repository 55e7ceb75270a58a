import itertools
import json
import time

import pytest
from hydra import compose, initialize_config_dir

from zoo.benchmarks.training import train_config
from zoo.comparison import baseline
from zoo.engine.config import conf_dir
from zoo.errors import ZooError
from zoo.results import making, rows

ABOUT = {
    "model": "vae",
    "data": "faces",
    "seed": 0,
    "images_seen": 64,
    "parameters": 1,
    "latent_dim": 1,
    "metrics": {"reconstructions/mse@2000": 0.1},
}
MEASURED = {"images_sha256": "a", "split": "test", "seed": 0}


class Zoo:
    """Stands in for the processes that `make` starts: a sweep of two runs, of which the second fails at first."""

    def __init__(self):
        self.calls, self.broken, self.unmeasurable = [], True, ()

    def __call__(self, verb, *arguments, output=None, **variables):
        self.calls.append((verb, *arguments))
        if verb == "train":
            folder = making.RUNS / "compare"
            for number in (0, 1):
                run = folder / f"0{number}-seed-{number}"
                run.mkdir(parents=True, exist_ok=True)
                (run / "config.yaml").write_text("{budget: 64, batch_size: 32}")
                if number == 0 or not self.broken:
                    (run / "summary.json").write_text(json.dumps({"images_seen": 64}))
            return int(self.broken)
        if verb == "evaluate":
            run = making.Path(arguments[0].removeprefix("run="))
            if run.name in self.unmeasurable:
                return 1
            seed = int(run.name[-1])
            book = ABOUT | {"seed": seed, "command": f"python -m zoo.train experiment=compare model=vae seed={seed}", "measured": MEASURED}
            book |= {"features": {}, "trained_with": {"commit": "c"}, "versions": {"commit": "c"}}
            (run / "evaluation.json").write_text(json.dumps(book))
            (run / "cost.json").write_text("{}")
        return 0


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """The stand-in, in an empty folder that the rows are kept in, too."""
    monkeypatch.chdir(tmp_path)
    for module in (baseline, rows):
        monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(making, "estimate", lambda *about: None)
    zoo = Zoo()
    monkeypatch.setattr(making, "call", zoo)
    return zoo


def test_what_is_trained_is_evaluated_once_published_and_compared(zoo):
    with pytest.raises(ZooError, match="the same command goes on"):
        making.make("compare")
    assert [row["seed"] for row in baseline.rows_of("compare")] == [0]
    zoo.broken = False
    making.make("compare")
    assert [row["seed"] for row in baseline.rows_of("compare")] == [0, 1]
    assert [verb for verb, *_ in zoo.calls] == ["train", "evaluate", "compare"] * 2
    sweep = zoo.calls[0]
    assert {"-m", "experiment=compare", "hydra.launcher.per_job=1", "hydra.sweep.dir=runs/results/compare"} <= {*sweep}
    assert zoo.calls[0] == zoo.calls[3]  # the same command, which goes on
    assert "samples=2000" in zoo.calls[1]


def test_one_run_that_cannot_be_evaluated_keeps_no_other_from_being_published(zoo):
    zoo.broken, zoo.unmeasurable = False, ("00-seed-0",)
    with pytest.raises(ZooError, match="could not be evaluated: 00-seed-0; see"):
        making.make("compare")
    assert [row["seed"] for row in baseline.rows_of("compare")] == [1]
    assert zoo.calls[-1] == ("compare", "runs/results/compare")


def test_gpus_are_never_shared_by_evaluations(tmp_path, monkeypatch):
    """Later runs take the GPU that has become free, however long the others need."""
    monkeypatch.setattr(making.torch.cuda, "device_count", lambda: 2)
    busy, most = [], []

    def call(verb, run, *arguments, output, **variables):
        busy.append(variables["CUDA_VISIBLE_DEVICES"])
        most.append(sorted(busy))
        time.sleep(0.3 if run.endswith("0") else 0.02)
        busy.remove(variables["CUDA_VISIBLE_DEVICES"])
        return 0

    monkeypatch.setattr(making, "call", call)
    runs = [tmp_path / str(number) for number in range(8)]
    for run in runs:
        run.mkdir()
    assert making.evaluate_all(runs, 16, 2) == []
    assert ["0", "1"] in most
    assert all(len({*taken}) == len(taken) for taken in most)


def test_an_experiment_without_a_sweep_is_one_sentence():
    with pytest.raises(ZooError, match="names no models and seeds"):
        making.make("vae_celeba")


@pytest.mark.parametrize("experiment", ["compare", "compare_full"])
def test_the_experiments_sweep_over_all_models(experiment):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    models = config.hydra.sweeper.params.model.split(",")
    assert sorted(models) == sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
    assert config.data.name == "faces"


def test_both_stages_count_in_the_estimate(monkeypatch):
    config = train_config("model=gan", "data.image_size=32", "model.backbone.width=16", "budget=3200", "pretrain.share=0.25")
    milliseconds = itertools.chain([9_000.0], [50.0] * (making.STEPS - 1), [9_000.0], [100.0] * (making.STEPS - 1))  # first steps are slow
    monkeypatch.setattr(making, "clocked", lambda take, batch: next(milliseconds))
    assert making.seconds_of(config) == pytest.approx(0.75 * 100 * 0.05 + 0.25 * 100 * 0.1)
