"""Searches by Optuna, with jobs that are a formula instead of a training; one search trains."""

import json
import math
import sys

import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus

import zoo.sweeps.jobs as sweep_jobs
import zoo.train as zoo_train
from tests.sweeps.helpers import read
from zoo.config.overrides import quoted
from zoo.errors import ZooError
from zoo.sweeps.local import LocalBackend
from zoo.sweeps.optuna_sweeper import distribution
from zoo.sweeps.plugins import LocalLauncher

SIZE = ["max_images=32", "batch_size=32"]
SEARCH = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.metric=val/mse", "logger=none", "hydra.sweep.dir=found", *SIZE]

# A run that leaves what a training would leave, at once. val/mse = (beta - 2)², so the best beta is 2.
JOB = """
import json, sys
from pathlib import Path
given = dict(o.split("=", 1) for o in sys.argv[1:])
run = Path(given["hydra.run.dir"].strip("'"))
beta = float(given.get("model.beta", 0))
with open(run.parent / "started", "a") as file:
    file.write(f"{run.name}\\n")
(run / "config.yaml").write_text("{format: 3, max_images: 32, batch_size: 32, seed: 0, model: {name: vae}, data: {name: faces}}")
summary = {"format": 2, "seed": 0, "training": {"max_images": 32, "complete": True}, "images_seen": 32, "measurements": []}
(run / "summary.json").write_text(json.dumps(summary | {"metrics": {"val/mse": (beta - 2) ** 2, "val/psnr": beta}}))
"""


@pytest.fixture
def search(zoo, monkeypatch, tmp_path):
    """Types a search whose jobs are the formula above, as processes: search("model.beta=…") -> exit code, stdout, stderr."""
    Plugins.instance()  # which executes the plugins' modules anew, so before anything in them is replaced
    (tmp_path / "job.py").write_text(JOB)

    def command(given, folder):
        return [sys.executable, "-S", str(tmp_path / "job.py"), *given, f"hydra.run.dir={quoted(folder)}"]

    monkeypatch.setattr(sweep_jobs, "job_command", command)
    monkeypatch.setattr(zoo_train, "finalize_sweep", lambda folder: 0)  # the comparison is another matter
    monkeypatch.setattr(LocalBackend, "poll_seconds", 0.01)
    return lambda *arguments: zoo("train", *SEARCH, *arguments)


@pytest.fixture
def quick(search, monkeypatch):
    """The same without processes and folders: quick(…) -> (exit code, stdout, stderr), quick.launched[n] = the overrides of job n."""
    launched = {}

    def launch(self, job_overrides, initial_job_idx):
        launched.update(enumerate(job_overrides, start=initial_job_idx))
        betas = [float(dict(o.split("=") for o in overrides)["model.beta"]) for overrides in job_overrides]
        found = [None if beta > search.too_high else {"val/mse": (beta - 2) ** 2, "val/psnr": beta} for beta in betas]
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=metrics) for metrics in found]

    search.too_high = math.inf
    search.launched = launched
    monkeypatch.setattr(LocalLauncher, "launch", launch)
    return search


def study_of(tmp_path, name="minimize val/mse", folder="found"):
    import optuna

    return optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/{folder}/study.db")


def started(tmp_path):
    return (tmp_path / "found" / "started").read_text().split()


@pytest.mark.parametrize(
    ("typed", "low", "high", "whole", "log"),
    [
        ("interval(0.5,4)", 0.5, 4, False, False),
        ("interval(1,4)", 1, 4, False, False),
        ("tag(log,interval(1e-4,1e-2))", 1e-4, 1e-2, False, True),
        ("int(interval(16,64))", 16, 64, True, False),
        ("range(1,5)", 1, 4, True, False),
        ("range(0,1,0.25)", 0, 0.75, False, False),
    ],
)
def test_the_space_is_written_in_hydras_grammar(typed, low, high, whole, log):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = distribution(OverridesParser.create().parse_override(f"a={typed}"))
    assert (found.low, found.high, found.log) == (low, high, log)
    assert type(found).__name__ == ("IntDistribution" if whole else "FloatDistribution")


def test_choices_stay_as_they_are_typed():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parse = OverridesParser.create().parse_override
    assert distribution(parse("model.latent_dim=choice(16,32)")).choices == ("16", "32")
    assert distribution(parse("model=ae,vae")).choices == ("ae", "vae")
    with pytest.raises(ZooError, match="not an interval"):
        distribution(parse("a=interval(4,1)"))
    with pytest.raises(ZooError, match="above 0"):
        distribution(parse("a=tag(log,interval(0,1))"))


def test_a_search_finds_the_best_and_says_how_to_train_it(quick, tmp_path):
    done = quick("model.beta=interval(0,8)", "model.latent_dim=8", "hydra.sweeper.trials=6", "hydra.sweeper.jobs=3")
    assert done.code == 0, done.err
    trials = study_of(tmp_path).trials
    betas = [trial.params["model.beta"] for trial in trials]
    assert len({*betas}) == 6
    assert [trial.value for trial in trials] == pytest.approx([(beta - 2) ** 2 for beta in betas])
    best = min(betas, key=lambda beta: abs(beta - 2))
    assert f"python -m zoo.train logger=none max_images=32 batch_size=32 model.latent_dim=8 model.beta={best}\n" in done.out
    own = ["logger=none", *SIZE, "model.latent_dim=8"]
    assert [quick.launched[number] for number in range(6)] == [[*own, f"model.beta={beta}"] for beta in betas]


def test_a_stopped_search_draws_what_it_would_have_drawn(search, tmp_path, monkeypatch):
    """Stopped while a second job runs beside a finished one: that one stays, the other keeps its settings and folder."""
    arguments = ["model.beta=interval(0,8)", "hydra.sweeper.jobs=2"]
    start = LocalBackend.start

    def stopped(self, job, slots):
        if job.label.startswith("[4/"):
            raise SystemExit(143)  # as after a signal
        return start(self, job, slots)

    monkeypatch.setattr(LocalBackend, "start", stopped)
    assert search(*arguments, "hydra.sweeper.trials=5").code == 143
    monkeypatch.setattr(LocalBackend, "start", start)
    first = study_of(tmp_path).trials
    assert [trial.state.name for trial in first] == ["COMPLETE"] * 2 + ["RUNNING"] * 2
    assert [name[:2] for name in started(tmp_path)] == ["00", "01", "02"]

    done = search(*arguments, "hydra.sweeper.trials=5")
    assert done.code == 0, done.err
    trials = study_of(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    assert [trial.params for trial in trials][:4] == [trial.params for trial in first]
    assert [name[:2] for name in started(tmp_path)] == ["00", "01", "02", "03", "04"]  # none twice
    best = min(trials, key=lambda trial: trial.value).params["model.beta"]
    [folder] = [path.parent for path in (tmp_path / "found").glob("*/job.json") if f"model.beta={best}" in path.read_text()]
    assert f"found/{folder.name}/" in done.out

    refused = search("model.beta=interval(0,9)", "hydra.sweeper.jobs=2", "hydra.sweeper.trials=5")
    assert refused.code == 2
    assert "model.beta=interval(0,9)" in refused.err

    monkeypatch.setattr(LocalLauncher, "launch", lambda self, batch, initial_job_idx: [good(overrides) for overrides in batch])
    assert search(*arguments, "hydra.sweeper.trials=5", "hydra.sweep.dir=whole").code == 0
    assert [trial.params for trial in study_of(tmp_path, folder="whole").trials] == [trial.params for trial in trials]


def good(overrides):
    return JobReturn(status=JobStatus.COMPLETED, _return_value={"val/mse": (float(overrides[-1].partition("=")[2]) - 2) ** 2})


def test_more_trials_go_on_with_the_study(quick, tmp_path):
    assert quick("model.beta=interval(0,8)", "hydra.sweeper.trials=3").code == 0
    quick.launched.clear()
    assert quick("model.beta=interval(0,8)", "hydra.sweeper.trials=5").code == 0
    assert [*quick.launched] == [3, 4]
    assert len(study_of(tmp_path).trials) == 5


def test_equal_settings_are_trained_once(quick, tmp_path):
    assert quick("model.beta=1,2", "hydra.sweeper.trials=5", "hydra.sweeper.jobs=3", "hydra.sweeper.direction=maximize").code == 0
    trials = study_of(tmp_path, "maximize val/mse").trials
    assert len(trials) == 5
    assert {trial.params["model.beta"]: trial.value for trial in trials} == {"1": 1, "2": 0}
    assert len(quick.launched) == 2


def test_failed_jobs_do_not_end_a_search_unless_all_fail(quick, tmp_path):
    quick.too_high = 4
    done = quick("model.beta=interval(0,8)", "hydra.sweeper.trials=5", "hydra.sweeper.failures=5")
    assert done.code == 0, done.err
    trials = study_of(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["FAIL" if trial.params["model.beta"] > 4 else "COMPLETE" for trial in trials]
    assert {trial.state.name for trial in trials} == {"FAIL", "COMPLETE"}

    quick.too_high = -1
    quick.launched.clear()
    done = quick("model.beta=interval(0,8)", "hydra.sweep.dir=none", "hydra.sweeper.trials=8", "hydra.sweeper.failures=3")
    assert done.code == 2
    assert "first 3 jobs failed" in done.err
    assert len(quick.launched) == 3


def test_an_unknown_metric_is_said_after_the_first_job_which_is_kept(quick):
    arguments = ["model.beta=interval(0,8)", "hydra.sweeper.trials=2"]
    done = quick(*arguments, "hydra.sweeper.metric=val/msee")
    assert done.code == 2
    assert "did you mean 'val/mse'?" in done.err
    [job] = quick.launched.items()
    assert quick(*arguments).code == 0
    assert [*quick.launched] == [0, 1]
    assert (0, quick.launched[0]) == job  # whose folder the launcher knows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.beta=interval(0,8)", "hydra.sweeper.metric=null"], "hydra.sweeper.metric=val/mse"),
        (["model.beta=1"], "nothing to search"),
        (["model.betta=interval(0,8)"], "did you mean 'model.beta'?"),
        (["model.beta=interval(0,8)", "hydra.sweeper.direction=down"], "minimize or maximize"),
        (["model.beta=interval(0,8)", "hydra.sweeper.trials=0"], "hydra.sweeper.trials=0"),
        (["model.beta=interval(0,8)", "hydra/launcher=cpus", "hydra.launcher.per_job=1000"], "hydra.launcher.per_job=1000"),
        (["model.beta=interval(0,8)", "trainer.num_nodes=2"], "hydra/launcher=slurm"),
    ],
)
def test_mistakes_are_one_sentence(search, tmp_path, arguments, said):
    done = search(*arguments)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "found").exists()


def test_without_optuna(search, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("optuna.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = search("model.beta=interval(0,8)")
    assert done.code == 2
    assert "pip install 'zoo[sweep]'" in done.err


@pytest.mark.slow  # all ranks of a job: tests/sweeps/test_scheduler.py
def test_a_search_that_trains_on_two_ranks(zoo, tiny, tmp_path, assert_two_ranks_alike):
    """Both ranks have the settings that were drawn; the metric is that of the validation after training."""
    own = [override for override in tiny if not override.startswith(("logger", "max_images", "batch_size"))]
    arguments = [*SEARCH, *own, "evaluation.samples=0", "optimizer.lr=tag(log,interval(1e-4,1e-2))"]
    arguments += ["hydra.sweeper.trials=1", "trainer.devices=2", "trainer.accelerator=cpu"]
    assert zoo("train", *arguments).code == 0
    [trial] = study_of(tmp_path).trials
    [run] = [path.parent for path in (tmp_path / "found").glob("*/summary.json")]
    assert trial.value == json.loads((run / "summary.json").read_text())["metrics"]["val/mse"]
    drawn = f"optimizer.lr={trial.params['optimizer.lr']}"
    assert_two_ranks_alike(drawn, run)
    assert drawn in json.loads((run / "job.json").read_text())["overrides"]


def test_a_search_as_a_file_of_hparams_search(jobs, zoo, tiny, tmp_path):
    own = [override for override in tiny if not override.startswith("model.")]
    options = ["hydra.sweeper.metric=val/mse", "hydra.sweeper.trials=2", "hydra.sweep.dir=found", "evaluation.samples=0"]
    done = zoo("train", "-m", "hparams_search=vae_optuna", *own, *options)
    assert done.code == 0, done.err
    found = [read(folder, "seen.json")["overrides"] for folder in sorted((tmp_path / "found").glob("0*"))]
    assert len(found) == 2
    for overrides in found:
        assert {"optimizer.lr", "model.beta", "model.latent_dim"} <= {override.partition("=")[0] for override in overrides}
        assert "hparams_search=vae_optuna" in overrides
    assert "Best val/mse of 2 trials" in done.out
