import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes with two threads each are slower than with one

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # exact equality is promised on the CPU

import pytest
import torch

from tests.data.makers import make_mnist

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """The packed stores of the tests, never the user's; nor the user's other folders."""
    for name in ("ZOO_DATA", "ZOO_RUNS", "ZOO_TRUSTED"):
        os.environ.pop(name, None)
    os.environ["ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A tiny data set in MNIST's layout: 36 images to train on, 4 to validate, 12 to test."""
    root = tmp_path_factory.mktemp("digits")
    make_mnist(root)
    return root


@pytest.fixture(scope="session")
def tiny(digits) -> list[str]:
    """Overrides for a training run of seconds: 8 steps, 4 an epoch, a checkpoint every 2."""
    return [
        "data=mnist", f"data.root={digits}", "logger=none", "model.latent_dim=4", "model.backbone.width=16",
        "batch_size=8", "max_images=64", "val_every_images=32", "checkpoint_every_images=16", "log_every_images=8",
    ]  # fmt: skip


class Outcome:
    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def zoo(monkeypatch, capsys, tmp_path):
    """Types a command in an empty folder, in this process: zoo("train", "model=ae", …) -> exit code, stdout, stderr."""
    import importlib

    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [f"zoo.{name}", *map(str, arguments)])
        capsys.readouterr()
        try:
            importlib.import_module(f"zoo.{name}").main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def shell(tmp_path):
    """Starts a command in an empty folder, in a process of its own: shell("train", …) -> Popen."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_PORT", "MASTER_ADDR")}

    def start(name: str, *arguments: str, **options) -> subprocess.Popen:
        command = [sys.executable, "-m", f"zoo.{name}", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **(pipes | options))

    return start
