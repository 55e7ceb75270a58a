import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.comparison.runs import SUMMARY, records
from zoo.benchmarks.steps import train_settings
from zoo.comparison import baseline
from zoo.config.instantiate import conf_dir
from zoo.errors import ZooError
from zoo.results import making, rows
from zoo.results.__main__ import main
from zoo.sweeps import scheduler
from zoo.sweeps.local import LocalBackend
from zoo.sweeps.processes import Command, Outcome
from zoo.sweeps.scheduler import SIGNALS, run_jobs

ABOUT = {
    "model": "vae",
    "data": "faces",
    "seed": 0,
    "images_seen": 64,
    "parameters": 1,
    "latent_dim": 1,
    "format": 2,
    "measurements": records({"reconstructions/mse@2000": 0.1}),
}
MEASURED = {"images_sha256": "a", "split": "test", "seed": 0}


class Zoo:
    """Stands in for the processes that `make` starts: a sweep of two runs, of which the second fails at first."""

    def __init__(self):
        self.calls, self.slots, self.broken, self.unmeasurable, self.count = [], [], True, (), {}

    def run_jobs(self, commands, backend):
        self.slots.append(backend.slots)
        return [Outcome("failed" if self.run(command.name, *command.arguments) else "finished") for command in commands]

    def run(self, command, *arguments):
        self.calls.append((command, *arguments))
        if command == "train":
            folder = making.RUNS / "compare"
            for number in (0, 1):
                run = folder / f"0{number}-seed-{number}"
                run.mkdir(parents=True, exist_ok=True)
                (run / "config.yaml").write_text(
                    "{format: 3, max_images: 64, batch_size: 32, seed: 0, model: {name: vae}, data: {name: faces}}"
                )
                if number == 0 or not self.broken:
                    (run / "summary.json").write_text(
                        json.dumps(SUMMARY | {"images_seen": 64, "training": {"max_images": 64, "complete": True}})
                    )
            return int(self.broken)
        if command == "evaluate":
            run = Path(arguments[0].removeprefix("run="))
            if run.name in self.unmeasurable:
                return 1
            seed = int(run.name[-1])
            record = ABOUT | {
                "seed": seed,
                "command": f"python -m zoo.train experiment=compare model=vae seed={seed}",
                "measured": MEASURED,
            }
            record |= {"measurements": records({f"reconstructions/mse@{self.count.get(run.name, 2000)}": 0.1})}
            record |= {"features": {}, "trained_with": {"commit": "c"}, "versions": {"commit": "c"}}
            (run / "evaluation.json").write_text(json.dumps(record))
            (run / "cost.json").write_text('{"sampling/batch": 128}')
        return 0


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """The stand-in, in an empty folder that the rows are kept in, too."""
    monkeypatch.chdir(tmp_path)
    for module in (baseline, rows):
        monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(making, "train_settings", lambda *overrides: OmegaConf.create({"max_images": 64}))
    monkeypatch.setattr(making, "seconds_of", lambda config: 600.0)
    zoo = Zoo()
    monkeypatch.setattr(making, "run_jobs", zoo.run_jobs)
    return zoo


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Stands in for Python: a shell script that the scheduler starts instead, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def use(script: str) -> str:
        path = tmp_path / "interpreter"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        return str(path)

    return use


def test_what_is_trained_is_evaluated_once_published_and_compared(zoo):
    with pytest.raises(ZooError, match="the same command goes on"):
        making.make("compare")
    assert [row["seed"] for row in baseline.rows_of("compare")] == [0]
    zoo.broken = False
    making.make("compare")
    assert [row["seed"] for row in baseline.rows_of("compare")] == [0, 1]
    assert [command for command, *_ in zoo.calls] == ["train", "evaluate", "compare"] * 2
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


def test_what_remains_is_published_and_compared_when_one_run_is_refused(zoo, tmp_path):
    zoo.broken, zoo.count = False, {"00-seed-0": 500}
    page = tmp_path / "README.md"
    page.write_text("<!-- results:compare -->\n<!-- /results -->\n")
    (tmp_path / "compare.json").write_text(json.dumps([published(7)]))
    with pytest.raises(ZooError, match=r"00-seed-0 cannot be published beside 'python .* N is 2,000 in vae and 500 in runs\S+\.$"):
        making.make("compare")
    assert [row["seed"] for row in baseline.rows_of("compare")] == [1, 7]
    assert zoo.calls[-1] == ("compare", "runs/results/compare")
    assert "| vae | 0.10000 ± 0.00000 |" in page.read_text()


def published(seed, count=2000):
    """A row beside those of the stand-in, of another command."""
    return ABOUT | {
        "seed": seed, "command": "python -m zoo.train experiment=compare model=vae", "measured": MEASURED, "features": {}, "cost": {},
        "trained_with": {"commit": "c"}, "versions": {"commit": "c"}, "measurements": records({f"reconstructions/mse@{count}": 0.1}),
    }  # fmt: skip


def test_runs_that_are_all_made_again_replace_all_their_rows(zoo, tmp_path):
    """Another N: each new row would not fit beside the old row of the other."""
    (tmp_path / "compare.json").write_text(json.dumps([published(0, 500), published(1, 500)]))
    zoo.broken = False
    making.make("compare")
    assert [[one["n"] for one in row["measurements"]] for row in baseline.rows_of("compare")] == [[2000]] * 2


def test_the_estimate_counts_what_is_left(zoo, capsys, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(ZooError):
        making.make("compare")  # trains and evaluates one VAE of three
    capsys.readouterr()
    zoo.unmeasurable = ("01-seed-1",)
    zoo.broken = False
    with pytest.raises(ZooError):
        making.make("compare")
    # 10 models × 3 seeds + 2 VAEs, 600 s and 100 s each, on two cores
    assert "32 runs to train, 32 to evaluate: about 187 minutes" in capsys.readouterr().out
    with pytest.raises(ZooError):
        making.make("compare")
    assert "31 runs to train, 32 to evaluate: about 182 minutes" in capsys.readouterr().out


def test_gpus_are_those_this_process_may_use(zoo, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(making, "estimate", lambda *about: None)
    with pytest.raises(ZooError):
        making.make("compare")
    assert zoo.slots == [["machine"], ["2", "GPU-7"], ["machine"]]
    assert "hydra/launcher=gpus" in zoo.calls[0]


def test_gpus_are_never_shared_by_evaluations(tmp_path, interpreter, monkeypatch):
    """Later runs take the GPU that has become free, however long the others need."""
    monkeypatch.setattr(LocalBackend, "poll_seconds", 0.01)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    # A GPU is a folder, which only one can make; the first run takes until all have begun, the third one fails.
    interpreter("""
        mkdir gpu$CUDA_VISIBLE_DEVICES || exit 1
        echo $CUDA_VISIBLE_DEVICES >> taken
        case $3 in */0) for i in $(seq 500); do [ $(wc -l < taken) = 8 ] && break; sleep 0.02; done;; */2) code=1;; esac
        rmdir gpu$CUDA_VISIBLE_DEVICES; exit $code""")
    runs = [tmp_path / "runs" / str(number) for number in range(8)]
    for run in runs:
        run.mkdir(parents=True)
    assert making.evaluate_all(runs, 16, LocalBackend("gpus")) == [runs[2]]
    taken = (tmp_path / "taken").read_text().split()
    assert len(taken) == 8
    assert taken.count("2") == 1


SAVING = "trap 'sleep 0.3; echo $$ >> saved; exit 143' TERM; echo $$ >> started; for i in $(seq 300); do sleep 0.05; done"
PARENT = """
import sys
from pathlib import Path
from zoo.sweeps.local import LocalBackend
from zoo.sweeps.processes import Command
from zoo.sweeps.scheduler import run_jobs
sys.executable = sys.argv[1]
run_jobs([Command("train", [str(number)], Path("log")) for number in range(3)], LocalBackend("cpus", slots=2))
"""


def until(there) -> bool:
    for _ in range(400):
        if there():
            return True
        time.sleep(0.05)
    return False


def lines(path) -> int:
    return len(path.read_text().split()) if path.is_file() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_runs_save_and_begins_nothing_more(tmp_path, interpreter, capsys, monkeypatch, number):
    interpreter(SAVING)
    sessions = set()

    def sleep(seconds, wait=time.sleep):
        wait(0.02)
        if lines(tmp_path / "started") == 2 and not sessions:
            sessions.update(os.getsid(int(process)) for process in (tmp_path / "started").read_text().split())
            os.kill(os.getpid(), number)

    monkeypatch.setattr(scheduler.time, "sleep", sleep)
    handlers = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(SystemExit) as stopped:
        run_jobs([Command("train", ["x"])] * 3, LocalBackend("cpus", slots=2))
    assert stopped.value.code == 128 + number
    assert os.getsid(0) not in sessions  # a terminal sends its Ctrl-C to all of a session's foreground; two of them would kill
    assert (lines(tmp_path / "started"), lines(tmp_path / "saved")) == (2, 2)
    assert capsys.readouterr().out == "Stopped; the same command goes on.\n"
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_what_runs_saves_when_make_is_killed(tmp_path, interpreter):
    python = sys.executable
    script = interpreter(SAVING)
    environment = os.environ | {"PYTHONPATH": str(Path(making.__file__).parents[2])}
    parent = subprocess.Popen([python, "-c", PARENT, script], env=environment)
    assert until(lambda: lines(tmp_path / "started") == 2)
    parent.kill()
    parent.wait()
    assert until(lambda: lines(tmp_path / "saved") == 2)


def test_stopping_before_anything_is_trained_is_one_sentence(tmp_path, monkeypatch, capsys):
    def make(experiment):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(making, "make", make)
    monkeypatch.setattr(sys, "argv", ["zoo.results", "make", "compare"])
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 130
    assert capsys.readouterr().out == "Stopped; the same command goes on.\n"


def test_a_mistyped_experiment_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["zoo.results", "make", "compar"])
    monkeypatch.setattr(signal, "signal", lambda *about: None)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "There is no experiment 'compar'" in capsys.readouterr().err


def test_an_experiment_without_a_sweep_is_one_sentence():
    with pytest.raises(ZooError, match="names no models and seeds"):
        making.make("vae_celeba")


@pytest.mark.parametrize("experiment", ["compare", "compare_full"])
def test_the_experiments_sweep_over_all_models(experiment):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    models = config.hydra.sweeper.params.model.split(",")
    assert sorted(models) == sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml") if path.stem != "custom")
    assert config.data.name == "faces"


def test_both_stages_count_in_the_estimate(monkeypatch):
    config = train_settings("model=gan", "data.image_size=32", "model.backbone.width=16", "max_images=3200", "pretrain.share=0.25")
    milliseconds = itertools.chain([9_000.0], [50.0] * (making.STEPS - 1), [9_000.0], [100.0] * (making.STEPS - 1))  # first steps are slow
    monkeypatch.setattr(making, "clocked", lambda take, batch: next(milliseconds))
    assert making.seconds_of(config) == pytest.approx(0.75 * 100 * 0.05 + 0.25 * 100 * 0.1)
