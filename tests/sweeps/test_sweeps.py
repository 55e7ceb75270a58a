"""Sweeps: slots, failures, environments, restarts. Jobs are stand-ins of a few lines, but for the last two tests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import zoo.sweeps.jobs as sweep_jobs
from zoo.config.overrides import quoted, unquoted
from zoo.runs.files import read_metrics
from zoo.runs.status import state_of
from zoo.sweeps.jobs import Job, identity, overrides_to_start

# Writes what it was given, then does what its seed says: 1 fails, 2 raises, 3 is killed, 4 waits for a signal and saves, 5 ignores it,
# 6 and 66 wait for another job to begin.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
*overrides, folder = sys.argv[1:]
folder = Path(folder)
seen = {"overrides": overrides, "environment": dict(os.environ), "cores": sorted(os.sched_getaffinity(0)), "start": time.monotonic()}
(folder / "config.yaml").write_text("budget: 64\\nbatch_size: 8\\nlogger: {id: abc}\\n")
(folder / "checkpoints").mkdir(exist_ok=True)
seed = next((o[5:] for o in overrides if o.startswith("seed=")), "")
resumed = any(o.startswith("resume=") for o in overrides)
def save(*_):
    (folder / "checkpoints" / "000000000032.ckpt").write_text("")
    sys.exit(143)
if seed in "45" and seed and not resumed:
    signal.signal(signal.SIGTERM, save if seed == "4" else signal.SIG_IGN)
    (folder / "ready").write_text("")
    time.sleep(60)
(folder / "begun").write_text("")
deadline = time.monotonic() + 20
while seed in ("6", "66") and len(list(folder.parent.glob("*/begun"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
seen["stop"] = time.monotonic()
(folder / "seen.json").write_text(json.dumps(seen))
if not (folder / "repaired").exists():
    if seed == "1":
        print("progress 5\\nzoo: The data are broken.\\nmore")
        sys.exit(2)
    if seed == "2":
        raise ValueError("a bug")
    if seed == "3":
        os.kill(os.getpid(), signal.SIGKILL)
(folder / "summary.json").write_text(json.dumps({"images_seen": 64, "metrics": {"val/mse": 0.25}}))
"""


@pytest.fixture
def jobs(monkeypatch, tmp_path_factory):
    """Stand-ins instead of training runs, and no table at the end."""
    script = tmp_path_factory.mktemp("stand_in") / "job.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(sweep_jobs, "job_command", lambda overrides, folder: [sys.executable, str(script), *overrides, str(folder)])
    monkeypatch.setitem(sys.modules, "zoo.comparison.collect", SimpleNamespace(compare=lambda paths: f"comparison of {paths[0]}"))
    monkeypatch.setitem(sys.modules, "zoo.comparison.terminal", SimpleNamespace(show=print))


def sweeps(tmp_path) -> list[Path]:
    return sorted(path.parent for path in (tmp_path / "runs" / "sweeps").glob("*/*/sweep.json"))


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def statuses(folder: Path) -> dict[str, str]:
    return {path.parent.name: read(path.parent, "job.json")["status"] for path in sorted(folder.glob("*/job.json"))}


def when(condition, act) -> threading.Thread:
    """Calls `act` in another thread as soon as the condition holds."""

    def wait():
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            if condition():
                return act()
            time.sleep(0.02)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def overlap(one: dict, other: dict) -> bool:
    return one["start"] < other["stop"] and other["start"] < one["stop"]


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


def test_a_folder_named_on_the_command_line_is_gone_on_with_and_no_other_jobs_enter_it(jobs, zoo, tiny, tmp_path):
    assert zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir=a b").code == 0
    again = zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir='a b'")
    assert again.code == 0
    assert again.out.count("skipped") == 2
    other = zoo("train", "-m", *tiny, "trainer.gradient_clip_val=1", "seed=0,10", "hydra.sweep.dir='a b'")
    assert other.code == 2
    assert "00-seed-0 holds another run than seed=0; name another hydra.sweep.dir" in other.err
    config = tmp_path / "a b" / "01-seed-10" / "config.yaml"
    config.write_text(config.read_text().replace("batch_size: 8", "batch_size: 4"))  # as if that of an experiment had been changed
    changed = zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir='a b'")
    assert changed.code == 2
    assert "01-seed-10 was begun with batch_size=4, not 8; name another hydra.sweep.dir" in changed.err
    assert not (tmp_path / "runs").exists()


def test_how_jobs_are_packed_and_how_long_a_search_goes_on_makes_no_other_sweep():
    packed = ["hydra/launcher=slurm", "+hydra.launcher.name=x", "hydra.sweep.dir=y", "hydra.sweeper.trials=9", "hydra.sweeper.jobs=2"]
    assert identity(["--multirun", *packed, "+model.x=1", "hydra.sweeper.seed=1"]) == ["+model.x=1", "hydra.sweeper.seed=1"]


def test_a_run_without_a_checkpoint_starts_anew_and_keeps_its_name_at_wandb(jobs, zoo, tiny, tmp_path):
    own = [o for o in tiny if o != "logger=none"]
    assert zoo("train", "-m", *own, "seed=2,10", "hydra.sweep.dir=here").code == 1
    failed = tmp_path / "here" / "00-seed-2"
    assert read(failed, "seen.json")["overrides"][len(own) + 1 :] == ["logger.group=here"]
    (failed / "repaired").write_text("")
    (failed / "wandb" / "offline-run-1").mkdir(parents=True)
    assert zoo("train", "-m", *own, "seed=2,10", "hydra.sweep.dir=here").code == 0
    assert read(failed, "seen.json")["overrides"][len(own) + 1 :] == ["logger.group=here", "logger.id='abc'"]
    assert not (failed / "wandb").exists()


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


def test_a_job_is_told_when_its_launcher_is_killed():
    program = """
import os, subprocess, sys, time
from functools import partial
from zoo.sweeps.processes import prepare_child
job = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('saved', flush=True))); print('up', flush=True); signal.pause()"
subprocess.Popen([sys.executable, "-c", job], preexec_fn=partial(prepare_child, os.getpid(), []))
time.sleep(60)
"""
    launcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "up\n"
    launcher.kill()
    assert launcher.stdout.read() == "saved\n"  # and its end of the pipe is closed: it has ended
    launcher.wait()


def test_two_processes_do_not_share_a_sweep(jobs, zoo, tiny, tmp_path):
    program = f"from zoo.sweeps.records import sweep_lock\nfrom pathlib import Path\nwith sweep_lock(Path({str(tmp_path / 'here')!r})):"
    program += "\n    print('held', flush=True)\n    input()"
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    refused = zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir=here")
    assert refused.code == 2
    assert "Another process is at work on the sweep in here" in refused.err
    assert not list((tmp_path / "here").glob("*-*"))
    other.communicate("\n")
    assert zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir=here").code == 0


def test_settings_that_only_the_swept_models_have(jobs, zoo, tiny, tmp_path):
    own = [o for o in tiny if not o.startswith("model.")]
    done = zoo("train", "-m", *own, "model=glow,fvae", "model.flow.depth=1", "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    assert [*statuses(tmp_path / "here")] == ["00-model-glow", "01-model-fvae"]
    assert {"model=fvae", "model.flow.depth=1"} <= {*read(tmp_path / "here" / "01-model-fvae", "seen.json")["overrides"]}


def test_a_job_s_folder_can_be_typed_without_quotes(jobs, zoo, tiny, tmp_path):
    sweeping = ["data.cache='/tmp/a, b=c',/tmp/b", f"evaluation.metrics=[samples],[{','.join(['samples'] * 12)}]"]
    done = zoo("train", "-m", *tiny, "trainer.precision=32-true", *sweeping, "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    names = [path.name for path in sorted((tmp_path / "here").glob("*-*"))]
    assert len(names) == 4
    assert names[0] == "00-cache-_tmp_a_b_c-metrics-_samples"
    assert max(map(len, names)) <= 80
    for name in names:
        assert OverridesParser.create().parse_override(f"run=here/{name}").value() == f"here/{name}"


@pytest.mark.parametrize("path", ["/a/00-vae", "/a b/c,d=e", "/it's/x", "\\a\\'b", "12", "runs/2026-11-20/10-00-00", "ä/ö", "a\\"])
def test_a_folder_reaches_hydra_as_it_is(path):
    override = OverridesParser.create().parse_override(f"hydra.run.dir={quoted(Path(path))}")
    assert override.value() == path
    assert unquoted(f"resume={quoted(path)}") == path


REFUSED = {
    "modle=3": ["no setting 'modle'", "did you mean 'model'"],
    "model.beat=1,2": ["no setting 'model.beat'", "did you mean 'model.beta'", "job", "beat=1"],
    "model=vae,vaee": ["no model 'vaee'", "did you mean 'vae'", "job model=vaee"],
    "model=ae,gan model.beta=2": ["no setting 'model.beta'", "job model=ae"],
    "optimizer.lr=1e-3,fast": ["optimizer.lr=fast", "number", "job lr=fast"],
    "seed=0,1,0": ["alike", "seed=0"],
    "seed=interval(0,1)": ["range", "hydra/sweeper=optuna"],
    "data=mnist,celeba": ["data.root=DIR", "job data=mnist"],
    "hydra/launcher=gpu": ["no hydra/launcher 'gpu'", "did you mean 'gpus'"],
    "hydra/launcher=gpus": ["machine has no GPU"],
    "hydra/launcher=cpus trainer.devices=1,2 trainer.accelerator=cpu": ["trainer.devices=2", "per_job=2", "job devices=2"],
    "hydra/launcher=cpus hydra.launcher.per_job=1000": ["per_job=1000", "whole number"],
    "hydra/launcher=cpus hydra.launcher.slots=1000": ["slots=1000"],
    "hydra/launcher=cpus hydra.launcher.slots=[0,0]": ["slots=[0, 0]"],
    "hydra/launcher=cpus hydra.launcher.slots=all": ["slots=all must be some of"],
    "hydra/launcher=cpus hydra.launcher.slots=1.5": ["slots=1.5 must be some of"],
    "hydra/launcher=cpus trainer.accelerator=gpu": ["trainer.accelerator=gpu"],
    "hydra/launcher=basic": ["one process", "hydra/launcher=local"],
    "trainer.num_nodes=2": ["trainer.num_nodes=2", "hydra/launcher=slurm"],
    "resume=latest": ["resume"],
    "--cfg": ["leave -m out"],
}  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="the cases are those of a machine without a GPU")
@pytest.mark.parametrize("arguments", REFUSED)
def test_refused_before_anything_is_written(jobs, zoo, tiny, tmp_path, arguments):
    own = [o for o in tiny if not o.startswith("model.")]
    if "data=" in arguments:
        own = [o for o in own if not o.startswith("data.root")]
    done = zoo("train", "-m", *own, *arguments.split())
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.strip().splitlines()) == 1, done.err
    for part in REFUSED[arguments]:
        assert part in done.err
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_of_an_earlier_attempt_do_no_harm(jobs, zoo, tiny, tmp_path):
    command = ["-m", *tiny, "seed=0,10", "hydra.sweep.dir=here"]
    assert zoo("train", *command).code == 0
    (tmp_path / "here" / "00-seed-0" / "summary.json").write_text('{"images')
    (tmp_path / "here" / "sweep.json").write_text("")
    done = zoo("train", *command)
    assert done.code == 0, done.err
    assert "[1/2] seed=0  started" in done.out
    assert "[2/2] seed=10  was finished before, skipped" in done.out
    assert len(read(tmp_path / "here", "sweep.json")["jobs"]) == 2


def test_all_ranks_of_real_jobs_have_one_command_and_one_folder(zoo, tiny, tmp_path, monkeypatch, assert_two_ranks_alike):
    """Two jobs on two ranks each; the first cannot be built."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    own = [o for o in tiny if o != "logger=none"] + ["trainer.devices=2", "trainer.accelerator=cpu", "logger.mode=offline"]
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


@pytest.mark.parametrize("torn", ["data: [", "budget:", "budget: 64\nlogger: {id: 'ab", "a", ""])
def test_torn_settings_of_a_job_are_no_error(tmp_path, torn):
    (tmp_path / "config.yaml").write_text(torn)
    (tmp_path / "summary.json").write_text('{"images_seen": 64}')
    assert state_of(tmp_path) == "new"
    config = OmegaConf.create({"logger": {"kind": "wandb", "group": "all"}})
    job = Job("[1/1] seed=1", ["seed=1"], "seed=1", tmp_path, config)
    assert overrides_to_start(job) == ["seed=1", "logger.group=all"]
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.slow
def test_the_number_of_devices_can_be_swept(zoo, tiny, tmp_path, assert_two_ranks_alike):
    done = zoo("train", "-m", *tiny, "trainer.devices=1,2", "trainer.accelerator=cpu", "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    one, two = tmp_path / "here" / "00-devices-1", tmp_path / "here" / "01-devices-2"
    assert [read(folder, "summary.json")["devices"] for folder in (one, two)] == [1, 2]
    assert read_metrics(one)["val/mse"] == pytest.approx(read_metrics(two)["val/mse"], rel=1e-4)
    assert_two_ranks_alike("trainer.devices=2", two)
