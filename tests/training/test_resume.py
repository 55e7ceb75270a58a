"""A resumed run equals the uninterrupted one bit for bit: weights, averaged weights, optimizer, metrics."""

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from zoo.runs import checkpoint
from zoo.runs.checkpoint import all_of, digest_file
from zoo.runs.status import state_of

EVERYTHING = ["ema_decay=0.9", "data.flip=true", "model.kl_warmup=40", "scheduler=cosine", "trainer.gradient_clip_val=10"]


def final(run: Path) -> dict:
    return torch.load(all_of(run)[0], weights_only=True)


def assert_equal(a, b, path=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for position, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}/{position}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def assert_same_end(one: Path, other: Path) -> None:
    a, b = final(one), final(other)
    for part in ("state_dict", "current_model_state", "optimizer_states", "global_step"):
        if part in a or part in b:
            assert_equal(a[part], b[part], part)
    with open(one / "metrics.csv") as first, open(other / "metrics.csv") as second:
        for row, twin in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            for name, value in row.items():
                if "images_per_second" not in name and "memory" not in name:
                    assert value == twin[name], (row["images_seen"], name)


def cut_after_the_first(full: Path, cut: Path) -> None:
    """Copies a run and takes all of its checkpoints away but the first."""
    shutil.copytree(full, cut)
    for path in all_of(cut)[:-1]:
        path.unlink()
        digest_file(path).unlink()


@pytest.mark.parametrize("kept", range(8, 64, 8))
def test_from_every_position_in_an_epoch(zoo, tiny, tmp_path, kept):
    """36 images, batches of 8: 4 steps an epoch; checkpoints after each of the 8 steps."""
    full, cut = tmp_path / "full", tmp_path / "cut"
    assert zoo("train", *tiny, *EVERYTHING, "checkpoint_every_images=8", "keep_last_k=99", "hydra.run.dir=full").code == 0
    shutil.copytree(full, cut)
    for path in all_of(cut):
        if int(path.stem) > kept:
            path.unlink()
            digest_file(path).unlink()
    (cut / "summary.json").unlink()
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert_same_end(full, cut)
    assert (cut / "summary.json").exists()


def test_killed_in_mid_epoch_then_resumed(zoo, shell, tiny, tmp_path):
    settings = [*tiny, *EVERYTHING, "max_images=3200", "checkpoint_every_images=104", "log_every_images=104", "val_every_images=1600"]
    assert zoo("train", *settings, "hydra.run.dir=full").code == 0
    process = shell("train", *settings, "hydra.run.dir=cut")
    while not [path for path in all_of(tmp_path / "cut") if int(path.stem) >= 312]:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = int(all_of(tmp_path / "cut")[0].stem)
    assert reached < 3200
    assert not (tmp_path / "cut" / "summary.json").exists()
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert_same_end(tmp_path / "full", tmp_path / "cut")


def test_a_broken_newest_checkpoint_costs_only_the_steps_after_the_one_before(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "hydra.run.dir=full").code == 0
    shutil.copytree(tmp_path / "full", tmp_path / "cut")
    newest = all_of(tmp_path / "cut")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0
    assert f"{newest.name} is damaged" in resumed.err
    assert_same_end(tmp_path / "full", tmp_path / "cut")


def test_leftovers_of_a_killed_session_do_no_harm(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "hydra.run.dir=run").code == 0
    torn = tmp_path / "run" / "checkpoints" / ".000000000080.ckpt.123"
    torn.write_bytes(b"half")
    with open(tmp_path / "run" / "metrics.csv", "a") as file:
        file.write("abc")
    resumed = zoo("train", "resume=run", "max_images=96")
    assert resumed.code == 0, resumed.err
    assert not torn.exists()
    with open(tmp_path / "run" / "metrics.csv") as file:
        assert [int(row["images_seen"]) for row in csv.DictReader(file)] == list(range(8, 104, 8))


def test_a_finished_run_says_so_and_a_larger_max_images_goes_on(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "hydra.run.dir=run").code == 0
    before = final(tmp_path / "run")
    again = zoo("train", "resume=run")
    assert again.code == 0
    assert "reached max_images" in again.out
    assert_equal(before["state_dict"], final(tmp_path / "run")["state_dict"])
    assert zoo("train", "resume=run", "max_images=96").code == 0
    assert all_of(tmp_path / "run")[0].stem == "000000000096"


def test_a_run_whose_last_checkpoint_was_not_written_is_not_finished(zoo, tiny, tmp_path, monkeypatch):
    save = checkpoint.save

    def fail_at_the_end(state, path):
        if path.stem == "000000000064":
            raise OSError(errno.ENOSPC, "full")
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", fail_at_the_end)
        assert zoo("train", *tiny, "hydra.run.dir=run").code == 2
    assert state_of(tmp_path / "run") == "interrupted"
    assert zoo("train", "resume=run").code == 0
    assert state_of(tmp_path / "run") == "finished"


def test_a_run_of_an_older_version_goes_on(zoo, tiny, tmp_path):
    """Its config.yaml lacks the settings that came later."""
    assert zoo("train", *tiny, "hydra.run.dir=run").code == 0
    path = tmp_path / "run" / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(("probe_every_images", "pretrain", "  run: null"))))
    assert "probe_every_images" not in path.read_text()
    resumed = zoo("train", "resume=run", "max_images=96")
    assert resumed.code == 0, resumed.err
    assert "probe_every_images: null" in path.read_text()


def test_latest_takes_the_newest_run(zoo, tiny, tmp_path):
    for name in ("runs/2026-01-02/10-00-00-vae-mnist", "runs/2026-01-01/11-00-00-vae-mnist"):
        assert zoo("train", *tiny, f"hydra.run.dir={name}").code == 0
    resumed = zoo("train", "resume=latest", "max_images=72")
    assert resumed.code == 0, resumed.err
    assert all_of(tmp_path / "runs/2026-01-02/10-00-00-vae-mnist")[0].stem == "000000000072"
    assert all_of(tmp_path / "runs/2026-01-01/11-00-00-vae-mnist")[0].stem == "000000000064"


@pytest.mark.parametrize(
    "override",
    [
        "model=ae",
        "seed=3",
        "batch_size=16",
        "optimizer.lr=0.1",
        "trainer=cpu",
        "data.image_size=32",
        "trainer.precision=bf16-mixed",
        "trainer.accumulate_grad_batches=2",
    ],
)
def test_what_would_change_the_trajectory_is_refused(zoo, tiny, tmp_path, override):
    assert zoo("train", *tiny, "hydra.run.dir=run").code == 0
    resumed = zoo("train", "resume=run", override)
    assert resumed.code == 2
    assert override in resumed.err
    assert len(resumed.err.strip().splitlines()) == 1


def test_a_checkpoint_of_another_model_is_refused(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "hydra.run.dir=vae").code == 0
    assert zoo("train", *tiny, "model=ae", "hydra.run.dir=ae").code == 0
    shutil.rmtree(tmp_path / "vae" / "checkpoints")
    shutil.copytree(tmp_path / "ae" / "checkpoints", tmp_path / "vae" / "checkpoints")
    resumed = zoo("train", "resume=vae")
    assert resumed.code == 2
    assert "belongs to another model than VAE" in resumed.err


def test_the_same_wandb_run_goes_on(zoo, tiny, tmp_path):
    own = [o for o in tiny if not o.startswith("logger")]
    assert zoo("train", *own, "logger.wandb.mode=offline", "hydra.run.dir=run").code == 0
    assert zoo("train", "resume=run", "max_images=96").code == 0
    ids = {
        path.name.split("-")[3] for path in (tmp_path / "run" / "wandb").glob("offline-run-*")
    }  # offline-run-TIME-ID, -1 in the same second
    assert len(ids) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)])
def test_a_signal_saves_and_says_how_to_go_on(zoo, shell, tiny, tmp_path, number, code):
    settings = [*tiny, "max_images=4000", "checkpoint_every_images=2000", "log_every_images=400", "val_every_images=2000"]
    process = shell("train", *settings, "hydra.run.dir=cut")
    while not (tmp_path / "cut" / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    for _ in range(2):  # as schedulers do, to a process and through its parent
        process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == code, output
    assert "resume=" in output
    assert "Traceback" not in output
    assert int(all_of(tmp_path / "cut")[0].stem) % 2000
    assert not (tmp_path / "cut" / "summary.json").exists()
    assert zoo("train", "resume=cut").code == 0
    assert zoo("train", *settings, "hydra.run.dir=full").code == 0
    assert_same_end(tmp_path / "full", tmp_path / "cut")


# The moments around a validation at which a process may die: what is patched, and how many steps are done then.
KILLED = """
import os, signal, sys
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.prior_fitter import PriorFitter
from zoo.models.base import Autoencoder

owner, hook, at_once = {"before": (Autoencoder, "on_validation_model_zero_grad", True), "within": (Autoencoder, "validation_step", True),
    "fitted": (PriorFitter, "on_validation_end", False), "saved": (PriorFitter, "on_train_batch_start", True)}[sys.argv.pop(1)]
own = getattr(owner, hook)

def dying(self, *args, **kwargs):
    trainer = args[0] if owner is PriorFitter else self.trainer
    if trainer.global_step == 4 and at_once:
        os.kill(os.getpid(), signal.SIGKILL)
    found = own(self, *args, **kwargs)
    if trainer.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(owner, hook, dying)
from zoo.train import main
main()
"""


@pytest.mark.parametrize("moment", ["within", "saved", *(pytest.param(m, marks=pytest.mark.slow) for m in ("before", "fitted"))])
def test_killed_around_a_validation(zoo, tiny, tmp_path, moment):
    """Rows, fitted prior and weights equal the uninterrupted run's. Validation is due after steps 4 and 8, a checkpoint every 2."""
    settings = [*tiny, "model=ae", "ema_decay=0.9", "evaluation.samples=0", "checkpoint_every_images=16"]
    assert zoo("train", *settings, "hydra.run.dir=full").code == 0
    command = [sys.executable, "-c", KILLED, moment, *settings, "hydra.run.dir=cut"]
    killed = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert int(all_of(tmp_path / "cut")[0].stem) == (32 if moment == "saved" else 16)
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert_same_end(tmp_path / "full", tmp_path / "cut")
    assert final(tmp_path / "cut")["state_dict"]["prior.mean"].any()
