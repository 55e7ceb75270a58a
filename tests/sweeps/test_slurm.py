"""Sweeps on Slurm, with a Slurm of one machine (tests/sweeps/slurm.py): submitit, its scripts, signals and pickles are the real ones."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import submitit
import torch

import zoo.train as zoo_train
from tests.sweeps import slurm
from zoo.config.overrides import quoted
from zoo.runs.checkpoint import all_of
from zoo.sweeps import scheduler
from zoo.sweeps import slurm as slurm_jobs

SWEEP = ["-m", "hydra/launcher=slurm", "logger=none", "hydra.sweep.dir=swept", "trainer.accelerator=cpu", "max_images=32", "batch_size=32"]

# A run of two steps: the first leaves a checkpoint and waits to be told to save, the second, resumed, finishes.
JOB = """
import json, os, signal, sys, time
from pathlib import Path
given = dict(o.split("=", 1) for o in sys.argv[1:])
run = Path(given["hydra.run.dir"].strip("'"))
rank = os.environ["SLURM_PROCID"]
names = ("SLURM_NTASKS", "SLURM_NODEID", "SLURM_LOCALID", "RANK", "MASTER_PORT")
about = {"argv": sys.argv[1:], "environment": {name: os.environ.get(name) for name in names}, "pid": os.getpid()}
what = "resumed" if "resume" in given else "begun"
(run / f"{what}-{rank}.json").write_text(json.dumps(about))
if given.get("seed") == "1" and rank == "1":
    print("zoo: This rank has no luck.")
    sys.exit(2)
if rank == "0":
    (run / "config.yaml").write_text("{format: 3, max_images: 32, batch_size: 32, seed: 0, model: {name: vae}, data: {name: faces}}")
if "resume" not in given and given.get("seed") != "2":
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    print("training", flush=True)
    while not told and not (run / "told").exists():
        time.sleep(0.02)
    (run / "told").touch()  # which stands for the ranks asking each other
    if rank == "0":
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints" / "5.ckpt").touch()
    sys.exit(143 if rank == "0" else 0)
while not all((run / f"{what}-{other}.json").exists() for other in range(int(os.environ["SLURM_NTASKS"]))):
    time.sleep(0.02)  # ranks wait for each other
if rank == "0":
    training = {"max_images": 32, "complete": True}
    summary = {"format": 2, "seed": 0, "training": training, "images_seen": 32, "metrics": {"val/mse": 0.5}, "measurements": []}
    (run / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The commands of Slurm on PATH, and time that passes faster."""
    slurm.install(tmp_path / "bin")
    (tmp_path / "slurm").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    submitit.SlurmJob.watcher.clear()  # the ids are those of earlier tests
    yield tmp_path / "slurm"
    for path in (tmp_path / "slurm").glob("*.state"):
        path.write_text("ENDED")


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """Jobs are the script above."""
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "-S", str(tmp_path / "job.py")]
    monkeypatch.setattr(slurm_jobs, "job_command", lambda given, folder: [*command, *given, f"hydra.run.dir={quoted(folder)}"])
    monkeypatch.setattr(zoo_train, "finalize_sweep", lambda folder: 0)
    monkeypatch.setattr(slurm_jobs.SlurmBackend, "poll_seconds", 0.1)
    monkeypatch.setattr(slurm_jobs, "ASK_SECONDS", 0.5)


def wait_for(path, process=None):
    began = time.monotonic()
    while not path.exists():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began < 100, f"{path} did not appear"
        time.sleep(0.02)


def record(tmp_path, name):
    return json.loads((tmp_path / "swept" / name / "job.json").read_text())


@pytest.mark.usefixtures("scripted")
def test_jobs_run_are_preempted_and_go_on(zoo, tmp_path, cluster, monkeypatch):
    """Three jobs of 1 node × 2 processes: 0 is told that its time is over and goes on, a rank of 1 fails, 2 just runs."""
    import threading

    def preempt():
        for rank in (0, 1):
            wait_for(tmp_path / "swept" / "00-seed-0" / f"begun-{rank}.json")
        wait_for(tmp_path / "swept" / "00-seed-0" / "config.yaml")
        subprocess.run(["scancel", "1", "--signal", "SIGUSR2"], check=True)

    monkeypatch.setenv("RANK", "7")  # of whoever starts the sweep
    monkeypatch.setenv("MASTER_PORT", "7")
    monkeypatch.setenv("LOCAL_RANK", "0")
    scheduler = threading.Thread(target=preempt, daemon=True)
    scheduler.start()
    done = zoo("train", *SWEEP, "seed=0,1,2", "trainer.devices=2", "hydra.launcher.signal_delay_s=20")
    scheduler.join()
    assert done.code == 0, done.err
    jobs = [record(tmp_path, f"0{seed}-seed-{seed}") for seed in range(3)]
    assert [job["status"] for job in jobs] == ["finished", "failed", "finished"]
    assert jobs[1]["reason"] == "This rank has no luck."
    assert "failed: This rank has no luck." in done.out

    first = tmp_path / "swept" / "00-seed-0"
    begun, resumed = ([json.loads((first / f"{what}-{rank}.json").read_text()) for rank in (0, 1)] for what in ("begun", "resumed"))
    assert begun[0]["argv"] == begun[1]["argv"]  # all ranks have the same settings and folder
    assert {"seed=0", "trainer.devices=2", f"hydra.run.dir={quoted(first)}"} <= {*begun[0]["argv"]}
    assert resumed[0]["argv"] == resumed[1]["argv"]
    assert f"resume={quoted(first)}" in resumed[0]["argv"]
    for rank in (0, 1):
        expected = {"SLURM_NTASKS": "2", "SLURM_NODEID": "0", "SLURM_LOCALID": str(rank), "RANK": None, "MASTER_PORT": None}
        assert begun[rank]["environment"] == expected
    assert {job["slurm"] for job in jobs} == {"1", "2", "3"}  # queued again, not anew
    script = (cluster / "1.sh").read_text()
    for line in ("--ntasks-per-node=2", "--nodes=1", "--requeue", "--signal=USR2@20", "--job-name=00-seed-0"):
        assert re.search(rf"^#SBATCH {line}$", script, re.M), script
    assert "gpus" not in script
    assert "--kill-on-bad-exit=1" in script

    again = zoo("train", *SWEEP, "seed=0,1,2", "trainer.devices=2", "hydra.launcher.signal_delay_s=20")
    assert again.out.count("was finished before, skipped") == 2
    assert len(list(cluster.glob("*.state"))) == 4  # only the failed one was submitted again


@pytest.mark.usefixtures("scripted")
def test_a_cancelled_job_is_interrupted_and_the_queue_is_kept(zoo, tmp_path, cluster, monkeypatch):
    """The sweep's process ends and comes back while the job runs; then the job is cancelled."""

    def pausing(sleep):
        """What the scheduler sees of time: its pauses are ours."""
        return SimpleNamespace(sleep=sleep, time=time.time)

    def interrupted(seconds):
        if (tmp_path / "swept" / "00-vae-faces" / "config.yaml").exists():
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(seconds)

    monkeypatch.setattr(scheduler, "time", pausing(interrupted))
    gone = zoo("train", *SWEEP, "seed=0", "trainer.devices=1")
    assert gone.code == 130, gone.out + gone.err
    assert "scancel 1" in gone.out
    assert record(tmp_path, "00-vae-faces")["status"] == "running"
    here = zoo("train", *SWEEP, "seed=0", "trainer.devices=1", "hydra/launcher=local")
    assert here.code == 2
    assert "00-vae-faces is still job 1 of Slurm" in here.err

    def cancelled(seconds):
        if not (cluster / "cancelled").exists():
            (cluster / "cancelled").touch()
            subprocess.run(["scancel", "1"], check=True)
        time.sleep(seconds)

    monkeypatch.setattr(scheduler, "time", pausing(cancelled))
    back = zoo("train", *SWEEP, "seed=0", "trainer.devices=1")
    assert "is still job 1 of Slurm" in back.out
    job = record(tmp_path, "00-vae-faces")
    assert job["status"] == "interrupted"
    assert "cancelled" in job["reason"]
    assert len(list(cluster.glob("*.state"))) == 1
    monkeypatch.setattr(scheduler, "time", time)
    assert zoo("train", *SWEEP, "seed=0", "trainer.devices=1").code == 0
    assert record(tmp_path, "00-vae-faces")["status"] == "finished"
    assert (tmp_path / "swept" / "00-vae-faces" / "resumed-0.json").exists()


def shape(arguments, zoo, monkeypatch):
    """What a job would ask Slurm for, without submitting it."""
    found = []

    def run_jobs(jobs, backend):
        found.extend(slurm_jobs.shape_of(job.settings) for job in jobs)
        raise SystemExit

    monkeypatch.setattr(scheduler, "run_jobs", run_jobs)
    zoo("train", "-m", "hydra/launcher=slurm", "logger=none", "hydra.sweep.dir=swept", "seed=0", *arguments)
    return found


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("arguments", "nodes", "tasks", "gpus"),
    [
        (["trainer.devices=8", "trainer.num_nodes=2"], 2, 8, 8),
        ([], 1, 1, 1),
        (["trainer.devices=4", "trainer.accelerator=cpu"], 1, 4, None),
    ],
)
def test_slurm_is_asked_for_what_the_job_has(zoo, monkeypatch, arguments, nodes, tasks, gpus):
    assert shape(arguments, zoo, monkeypatch) == [{"nodes": nodes, "tasks_per_node": tasks, "gpus_per_node": gpus}]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trainer.num_nodes=2", "+hydra.launcher.nodes=4"], ["hydra.launcher.nodes=4", "trainer.num_nodes"]),
        (["+hydra.launcher.gpus_per_node=2"], ["gpus_per_node=2", "trainer.devices"]),
        (["hydra.launcher.timeout_min=long"], ["long"]),
        (["+hydra.launcher.partitoin=gpu"], ["partitoin"]),
        (["trainer.devices=3"], ["batch_size=32 cannot be divided"]),
        (["model.betta=3"], ["did you mean 'model.beta'?"]),
    ],
)
def test_mistakes_are_said_before_anything_is_submitted(zoo, tmp_path, arguments, said):
    done = zoo("train", *SWEEP[:-1], "seed=0", *arguments)
    assert done.code == 2
    for part in said:
        assert part in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("slurm/*.state"))
    assert not (tmp_path / "swept").exists()


def test_without_slurm_or_submitit(zoo, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no sbatch and srun" in zoo("train", *SWEEP, "seed=0").err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'zoo[slurm]'" in zoo("train", *SWEEP, "seed=0").err


@pytest.mark.slow
def test_a_training_that_is_preempted_equals_one_that_is_not(zoo, tiny, tmp_path, cluster, shell):
    """Two nodes with one process each; the checkpoint of the preemption is where it goes on."""
    own = [o for o in tiny if not o.startswith(("max_images", "logger", "checkpoint_every_images", "val_every_images"))]
    settings = [
        *own,
        "max_images=1600",
        "checkpoint_every_images=1600",
        "val_every_images=1600",
        "evaluation.samples=0",
        "scheduler=constant",
    ]
    started = shell("train", *SWEEP, *settings, "seed=0", "trainer.num_nodes=2", "trainer.devices=1")
    run = tmp_path / "swept" / "00-vae-mnist"
    wait_for(run / "metrics.csv", started)
    subprocess.run(["scancel", "1", "--signal", "SIGUSR2"], check=True)
    assert zoo("train", *settings, "logger=none", "hydra.run.dir=one").code == 0
    output = started.communicate(timeout=200)[0]
    log = (run / "log.txt").read_text()
    assert started.returncode == 0, output + log
    assert "Stopped by a signal" in log
    assert [path.name for path in cluster.glob("*.state")] == ["1.state"]
    weights = [torch.load(all_of(folder)[0], weights_only=True)["state_dict"] for folder in (tmp_path / "one", run)]
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]) < 1e-4
    assert json.loads((run / "summary.json").read_text())["devices"] == 2
