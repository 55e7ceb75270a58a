"""Runs on several machines: torchrun starts the processes, one agent on each machine; here two agents on one."""

import json
import os
import socket
import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch

from zoo import hardware
from zoo.config.schema import TrainerSettings
from zoo.errors import ZooError
from zoo.runs.checkpoint import all_of
from zoo.training.resume import point_hydra_at_run
from zoo.training.trainer import build_trainer

TWO_NODES = ["trainer.num_nodes=2", "trainer.devices=1", "trainer.accelerator=cpu"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def agents(folder, rendezvous, arguments):
    """Two torchrun agents with one process each, as two machines would start them."""
    port = free_port()
    if rendezvous == "c10d":
        where = [["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=zoo"]] * 2
    else:
        where = [[f"--node-rank={rank}", "--master-addr=127.0.0.1", f"--master-port={port}"] for rank in (0, 1)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    options = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return [subprocess.Popen([*command, *own, "-m", "zoo.train", *arguments], env=environment, **options) for own in where]


def outputs(processes):
    try:
        return [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("rendezvous", ["c10d", pytest.param("static", marks=pytest.mark.slow)])
def test_two_agents_train_what_one_process_trains(zoo, tiny, tmp_path, rendezvous):
    processes = agents(tmp_path, rendezvous, [*tiny, *TWO_NODES, "hydra.run.dir=two"])
    assert zoo("train", *tiny, "hydra.run.dir=one").code == 0
    printed = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], printed

    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]  # no run folder of a process's own
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(path.name for path in (tmp_path / "one").iterdir())
    assert sum(text.count("│ metric") + text.count("┃ metric") for text in printed) == 1  # one process reports
    one, two = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("one", "two"))
    assert two["devices"] == 2
    assert one["metrics"].keys() == two["metrics"].keys()
    assert {"val/mse", "val/loss"} <= one["metrics"].keys()
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    weights = [torch.load(all_of(tmp_path / run)[0], weights_only=True)["state_dict"] for run in ("one", "two")]
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]) < 1e-5


@pytest.fixture
def started_by_torchrun(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "zoo", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("started_by_torchrun")
def test_processes_without_a_common_folder_are_refused(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, *TWO_NODES)
    assert done.code == 2
    assert "hydra.run.dir=DIR" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

    point_hydra_at_run(["zoo.train", "hydra.run.dir=here"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    point_hydra_at_run(["zoo.train", f"resume={tmp_path / 'run'}"])
    done = zoo("train", "-m", *tiny, "seed=0,1")
    assert done.code == 2
    assert "not by torchrun" in done.err


@pytest.mark.usefixtures("started_by_torchrun")
def test_other_numbers_of_processes_are_refused(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, "trainer.num_nodes=4", "trainer.devices=1", "trainer.accelerator=cpu", "hydra.run.dir=run")
    assert done.code == 2
    assert "torchrun has started 2 processes" in done.err
    assert "--nnodes" in done.err
    assert list(tmp_path.iterdir()) == []


def test_srun_starts_processes_too(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert hardware.external_world_size() == 4
    with pytest.raises(ZooError, match=r"hydra\.run\.dir=DIR"):
        point_hydra_at_run(["zoo.train"])
    point_hydra_at_run(["zoo.train", "-m", "seed=0,1"])  # a sweep that is started inside of an allocation starts its own processes
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    point_hydra_at_run(["zoo.train"])


@pytest.mark.parametrize("tasks", [1, 2])
def test_only_several_tasks_of_slurm_are_the_processes_of_a_run(monkeypatch, tmp_path, tasks):
    """A batch script with one task and several devices is what `python -m zoo.train trainer.devices=2` is elsewhere."""
    for name, value in {"NTASKS": tasks, "NTASKS_PER_NODE": tasks, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "NNODES": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    settings = TrainerSettings(accelerator="cpu", devices=2, precision="32-true")
    trainer = build_trainer(settings, tmp_path, 1, [pl.callbacks.Checkpoint()], [])
    assert trainer.world_size == 2
    cluster = trainer.strategy.cluster_environment
    assert cluster.creates_processes_externally == (tasks == 2)
    assert not getattr(cluster, "auto_requeue", False)  # that is the launcher's
