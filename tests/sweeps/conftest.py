"""Stand-ins for the processes of jobs, and a spy on those of real ones."""

import sys
from types import SimpleNamespace

import pytest

import zoo.sweeps.jobs as sweep_jobs
from zoo.sweeps.local import LocalBackend

# Writes what it was given, then does what its seed says: 1 fails, 2 raises, 3 is killed, 4 waits for a signal and saves, 5 ignores it,
# 6 and 66 wait for another job to begin.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
*overrides, folder = sys.argv[1:]
folder = Path(folder)
seen = {"overrides": overrides, "environment": dict(os.environ), "cores": sorted(os.sched_getaffinity(0)), "start": time.monotonic()}
config = {"format": 3, "max_images": 64, "batch_size": 8, "seed": 0, "logger": {"wandb": {"id": "abc"}}}
config |= {"model": {"name": "vae"}, "data": {"name": "mnist"}}
(folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
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
training = {"max_images": 64, "complete": True}
summary = {"format": 2, "seed": 0, "training": training, "images_seen": 64, "metrics": {"val/mse": 0.25}, "measurements": []}
(folder / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def jobs(monkeypatch, tmp_path_factory):
    """Stand-ins instead of training runs, and no table at the end."""
    script = tmp_path_factory.mktemp("stand_in") / "job.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(LocalBackend, "poll_seconds", 0.02)
    monkeypatch.setattr(sweep_jobs, "job_command", lambda overrides, folder: [sys.executable, str(script), *overrides, str(folder)])
    monkeypatch.setitem(sys.modules, "zoo.comparison.collect", SimpleNamespace(compare=lambda paths: f"comparison of {paths[0]}"))
    monkeypatch.setitem(sys.modules, "zoo.comparison.terminal", SimpleNamespace(show=print))


SPY = """
import os, sys
if "zoo.train" in sys.orig_argv:
    told = [os.environ.get("LOCAL_RANK", "0"), *sys.orig_argv]
    with open(os.path.join(os.path.dirname(__file__), f"spy-{os.getpid()}"), "w") as file:
        file.write("\\n".join(told))
"""


@pytest.fixture
def assert_two_ranks_alike(monkeypatch, tmp_path):
    """Writes down the command of every training process from now on.

    assert_two_ranks_alike(argument, folder): a run with that argument had two ranks, the second has all arguments of the first and
    adds no setting, and both write into that folder.
    """
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spy"))

    def check(argument, folder):
        told = [path.read_text().split("\n") for path in (tmp_path / "spy").glob("spy-*")]
        (zero, *first), (one, *second) = sorted(command for command in told if argument in command)
        assert (zero, one) == ("0", "1")
        assert second[: len(first)] == first
        added = [text.replace('"', "") for text in second[len(first) :]]
        assert all(text.startswith("hydra.") for text in added)
        assert [text for text in added if text.startswith("hydra.run.dir=")] == [f"hydra.run.dir={folder}"]

    return check
