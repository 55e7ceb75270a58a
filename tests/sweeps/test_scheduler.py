"""Slots, failures, environments, signals, restarts. Jobs are stand-ins of a few lines, but for the last two tests."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.sweeps.helpers import overlap, read, statuses, sweeps, when
from zoo.runs.records import read_metrics
from zoo.runs.status import state_of


def test_gpus_are_shared_out_and_never_oversubscribed(jobs, zoo, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,GPU-7,9,11")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    pool = ["hydra/launcher=gpus", "hydra.launcher.per_job=2", "trainer.devices=2"]
    done = zoo("train", "-m", *tiny, *pool, "model=ae,vae", "seed=6,66", "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    names = ["00-model-ae-seed-6", "01-model-ae-seed-66", "02-model-vae-seed-6", "03-model-vae-seed-66"]
    assert sorted(statuses(tmp_path / "here")) == names
    seen = [read(path, "seen.json") for path in sorted((tmp_path / "here").glob("*-*"))]
    taken = [set(one["environment"]["CUDA_VISIBLE_DEVICES"].split(",")) for one in seen]
    assert all(len(gpus) == 2 and gpus <= {"2", "5", "GPU-7", "9", "11"} for gpus in taken)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    together = [(i, j) for i, j in pairs if overlap(seen[i], seen[j])]
    assert together  # side by side
    assert not [(i, j) for i, j in together if taken[i] & taken[j]]
    assert all(sum(one["start"] <= at["start"] < one["stop"] for one in seen) <= 2 for at in seen)  # 5 GPUs hold two jobs of 2
    assert read(tmp_path / "here" / names[0], "job.json")["slots"] == ["2", "5"]
    assert f"comparison of {Path('here')}" in done.out
    assert "[1/4] model=ae seed=6  started on gpus 2,5" in done.out


def test_cores_are_shared_out(jobs, zoo, tiny, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core cannot be shared out")
    done = zoo("train", "-m", *tiny, "hydra/launcher=cpus", f"hydra.launcher.slots=[{cores[1]},{cores[0]}]", "seed=6,66,0")
    assert done.code == 0, done.err
    seen = [read(path, "seen.json") for path in sorted(sweeps(tmp_path)[0].glob("*-*"))]
    assert [one["cores"] for one in seen][:2] == [[cores[1]], [cores[0]]]
    assert all(len(one["cores"]) == 1 for one in seen)
    assert not [1 for i in range(3) for j in range(i) if overlap(seen[i], seen[j]) and seen[i]["cores"] == seen[j]["cores"]]
    assert overlap(seen[0], seen[1])
    assert {(one["environment"]["OMP_NUM_THREADS"], one["environment"]["CUDA_VISIBLE_DEVICES"]) for one in seen} == {("1", "")}
    assert sorted(os.sched_getaffinity(0)) == cores
    assert zoo("train", "-m", *tiny, "hydra/launcher=cpus", "hydra.launcher.per_job=2", "seed=0,10").code == 0
    seen = [read(path, "seen.json") for path in sorted(sweeps(tmp_path)[-1].glob("*-*"))]
    assert [(one["cores"], one["environment"]["OMP_NUM_THREADS"]) for one in seen] == [(cores[:2], "2")] * 2


def test_one_job_at_a_time_without_more_and_a_failing_one_stops_no_other(jobs, zoo, tiny, tmp_path):
    done = zoo("train", "-m", *tiny, "seed=0,1,2,3,10")
    assert done.code == 1
    folder = sweeps(tmp_path)[0]
    jobs_json = [read(path, "job.json") for path in sorted(folder.glob("*-*"))]
    assert [job["status"] for job in jobs_json] == ["finished", "failed", "failed", "failed", "finished"]
    assert [job["exit_code"] for job in jobs_json] == [0, 2, 1, -9, 0]
    reasons = [job["reason"] for job in jobs_json]
    assert reasons[1:3] == ["The data are broken.", "ValueError: a bug"]
    assert "killed" in reasons[3]
    assert "[2/5] seed=1  failed after 0 s: The data are broken." in done.out
    assert "[5/5] seed=10  finished in 0 s" in done.out
    seen = sorted((read(path.parent, "seen.json") for path in folder.glob("*/seen.json")), key=lambda one: one["start"])
    assert all(one["stop"] <= after["start"] for one, after in pairwise(seen))
    assert [job["overrides"] for job in read(folder, "sweep.json")["jobs"]][1] == [*tiny, "seed=1"]


def test_no_process_group_of_the_launcher_reaches_a_job(jobs, zoo, tiny, tmp_path, monkeypatch):
    leaks = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_PORT", "GROUP_RANK", "ROLE_NAME", "PL_GLOBAL_SEED", "SLURM_NTASKS")
    for name in leaks:
        monkeypatch.setenv(name, "1" if name == "SLURM_NTASKS" else "0")
    monkeypatch.setenv("KEPT", "yes")
    assert zoo("train", "-m", *tiny, "seed=0,10").code == 0
    for path in sweeps(tmp_path)[0].glob("*-*"):
        environment = read(path, "seen.json")["environment"]
        assert environment["KEPT"] == "yes"
        assert not [name for name in environment if name in leaks or name.startswith("HYDRA_")]


def test_the_same_command_skips_resumes_and_tries_again(jobs, zoo, tiny, tmp_path):
    command = ["-m", *tiny, "seed=0,1,4,10"]
    stop = when(lambda: list(tmp_path.glob("runs/sweeps/*/*/*/ready")), lambda: os.kill(os.getpid(), signal.SIGTERM))
    done = zoo("train", *command)
    stop.join()
    assert done.code == 143
    assert "1 of 4 jobs are finished; the same command goes on" in " ".join(done.out.split())
    [folder] = sweeps(tmp_path)
    assert [*statuses(folder).values()] == ["finished", "failed", "interrupted"]  # the last did not begin
    assert [state_of(folder / f"0{i}-seed-{seed}") for i, seed in enumerate((0, 1, 4, 10))] == [
        "finished", "failed", "interrupted", "new",
    ]  # fmt: skip
    before = (folder / "00-seed-0" / "seen.json").stat().st_mtime_ns
    (folder / "01-seed-1" / "repaired").write_text("")
    other = zoo("train", "-m", *tiny, "seed=0,10")
    assert other.code == 0
    assert "Going on" not in other.out

    again = zoo("train", *command, "hydra/launcher=cpus")  # packed otherwise, the same sweep
    assert again.code == 0, again.err
    counted = "1 finished, 1 to be resumed, 1 to be tried again, 1 new"
    assert f"Going on with the sweep in {folder.relative_to(tmp_path)}: {counted}." in again.out
    assert "[1/4] seed=0  was finished before, skipped" in again.out
    assert {*statuses(folder).values()} == {"finished"}
    assert (folder / "00-seed-0" / "seen.json").stat().st_mtime_ns == before
    resumed = read(folder / "02-seed-4", "seen.json")["overrides"]
    assert resumed == [f"resume={folder / '02-seed-4'}", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=1"]
    assert read(folder / "01-seed-1", "seen.json")["overrides"] == [*tiny, "seed=1"]

    assert len(sweeps(tmp_path)) == 2
    assert zoo("train", *command[:-1], "seed=0,10").code == 0  # all is done there: a new one
    assert len(sweeps(tmp_path)) == 3


def test_a_second_signal_kills(jobs, zoo, tiny, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    stop = when(lambda: list(tmp_path.glob("here/*/ready")), twice)
    began = time.monotonic()
    done = zoo("train", "-m", *tiny, "seed=5,0", "hydra.sweep.dir=here")
    stop.join()
    assert done.code == 130
    assert time.monotonic() - began < 30  # the job would sleep for a minute
    assert statuses(tmp_path / "here") == {"00-seed-5": "interrupted"}
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_all_ranks_of_real_jobs_have_one_command_and_one_folder(zoo, tiny, tmp_path, monkeypatch, assert_two_ranks_alike):
    """Two jobs on two ranks each; the first cannot be built."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    own = [o for o in tiny if o != "logger=none"] + ["trainer.devices=2", "trainer.accelerator=cpu", "logger.wandb.mode=offline"]
    done = zoo("train", "-m", *own, "evaluation.samples=0", "model.gamma=-1,0.1")
    assert done.code == 1
    folder = sweeps(tmp_path)[0]
    assert "gamma=-1  failed" in done.out
    assert "model.gamma" in read(folder / "00-gamma--1", "job.json")["reason"]
    job = folder / "01-gamma-0.1"
    assert read(job, "job.json")["status"] == "finished", (job / "log.txt").read_text()
    assert_two_ranks_alike("model.gamma=0.1", job)
    assert sum(1 for _ in tmp_path.rglob("config.yaml")) - sum(1 for _ in job.glob("wandb/**/config.yaml")) == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["sweeps"]
    assert len(list(job.glob("wandb/offline-run-*"))) == 1
    assert read(job, "summary.json")["devices"] == 2
    assert read_metrics(job)["val/mse"] > 0
    assert f"wandb login && wandb sync {job.relative_to(tmp_path)}/wandb/offline-run-*" in done.out
    assert "group: " + "-".join(folder.parts[-2:]) in (job / "config.yaml").read_text()
    assert "model.gamma=0.1" in done.out or "gamma" in done.out


@pytest.mark.slow
def test_the_number_of_devices_can_be_swept(zoo, tiny, tmp_path, assert_two_ranks_alike):
    done = zoo("train", "-m", *tiny, "trainer.devices=1,2", "trainer.accelerator=cpu", "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    one, two = tmp_path / "here" / "00-devices-1", tmp_path / "here" / "01-devices-2"
    assert [read(folder, "summary.json")["devices"] for folder in (one, two)] == [1, 2]
    assert read_metrics(one)["val/mse"] == pytest.approx(read_metrics(two)["val/mse"], rel=1e-4)
    assert_two_ranks_alike("trainer.devices=2", two)
