"""A model that starts from another: the same number of images, two stages, the same end wherever it was stopped."""

import csv
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import hydra
import pytest
import torch

from tests.training.test_ddp import furthest, weights
from tests.training.test_resume import assert_equal, assert_same_end, final
from zoo.callbacks.clock import images_seen
from zoo.callbacks.periodic_checkpoint import PeriodicCheckpoint
from zoo.callbacks.training_metrics import TrainingMetricsLogger
from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.config.overrides import quoted
from zoo.errors import ZooError
from zoo.runs.checkpoint import all_of, digest_file
from zoo.runs.load import open_run
from zoo.train import main
from zoo.training.resolve import resolve_config
from zoo.training.resume import point_hydra_at_run
from zoo.training.schedules import Cosine
from zoo.training.stages import first_stage

GAN = ["model=gan", "model.discriminator_warmup=0.25"]
EVERYTHING = [
    *GAN,
    "ema_decay=0.9",
    "data.flip=true",
    "trainer.gradient_clip_val=10",
    "pretrain.model.kl_warmup=24",
    "checkpoint_every_images=8",
    "keep_last_k=99",
]


def train_each(folder: Path, settings: list[str], commands: dict[str, list[str]]) -> Path:
    """Types a command for each folder of that name inside `folder`, in this process, for fixtures of a whole module."""
    argv = sys.argv
    for name, own in commands.items():
        sys.argv = ["zoo.train", *settings, *own, f"hydra.run.dir={folder / name}"]
        try:
            main()
        finally:
            sys.argv = argv
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Path:
    """`both`: a run of two stages, 32 images each, a checkpoint after each batch of 8; `vae`, `ae`: of 64 images."""
    return train_each(tmp_path_factory.mktemp("trained"), tiny, {"both": EVERYTHING, "vae": ["model=vae"], "ae": ["model=ae"]})


@pytest.fixture
def both(trained, tmp_path) -> Path:
    """A copy of the run of two stages."""
    return shutil.copytree(trained / "both", tmp_path / "full")


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv") as file:
        return list(csv.DictReader(file))


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def checkpoints(run: Path) -> list[int]:
    return [int(path.stem) for path in reversed(all_of(run))]


def settings(*overrides: str):
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return resolve_config(check(hydra.compose("train", list(overrides))))


def cut(full: Path, images: int, to: Path) -> Path:
    """The run as if it had been killed right after this checkpoint: what was logged and drawn later may be there, checkpoints are not."""
    shutil.copytree(full, to)
    for path in (*all_of(to), *all_of(to / "pretrain")):
        if int(path.stem) > images:
            path.unlink()
            digest_file(path).unlink()
    (to / "summary.json").unlink()
    if images <= 32:
        (to / "pretrain" / "summary.json").unlink()
    if images < 32:
        (to / "metrics.csv").unlink()
    return to


def test_one_command_trains_both_stages_on_one_max_images(both):
    first = both / "pretrain"
    assert checkpoints(first) == [8, 16, 24, 32]
    assert checkpoints(both) == [40, 48, 56, 64]
    assert [int(row["images_seen"]) for row in rows(first)] == [8, 16, 24, 32]
    assert [int(row["images_seen"]) for row in rows(both)] == [40, 48, 56, 64]
    assert {path.stem.rpartition("-")[2] for path in (both / "pictures").iterdir()} == {"000000000064"}
    assert (summary(first)["model"], summary(both)["model"]) == ("vae", "gan")
    state, earlier = final(both), final(first)
    assert state["global_step"] == earlier["global_step"] == 4  # each stage has its own clock
    assert open_run(both).model.images_seen == open_run(first).model.images_seen == 32
    assert float(rows(both)[-1]["train/learning_rate/generator"]) == pytest.approx(1e-3 * Cosine()(24 / 32))
    assert not (first / "pretrain").exists()


def test_the_generator_is_frozen_for_a_share_of_the_second_stage(both):
    assert [row["train/gradient_norm/generator"] == "" for row in rows(both)] == [True, False, False, False]  # 0.25 · 32 images


def test_the_summary_counts_both_stages(both):
    own, first = (final(run)["training_metrics"]["train_seconds"] / 3600 for run in (both, both / "pretrain"))
    written = summary(both)
    assert written["images_seen"] == 64
    assert written["train_hours"] == written["device_hours"] == pytest.approx(own + first, rel=0.2)
    assert written["images_per_second"] == pytest.approx(64 / 3600 / written["train_hours"])
    assert written["pretrain"]["checkpoint"] == "pretrain/checkpoints/000000000032.ckpt"
    assert written["pretrain"]["command"] == written["command"]
    assert written["pretrain"]["images_seen"] == 32
    assert written["pretrain"]["train_hours"] == pytest.approx(first)
    assert open_run(both).spent == pytest.approx({"images_seen": 64, "train_hours": own + first, "device_hours": own + first})
    assert "pretrain" not in summary(both / "pretrain")


def test_a_run_trained_before_gives_the_same(both, zoo, tiny, tmp_path):
    """Its images count as spent, so the same max_images leaves the same second stage."""
    done = zoo("train", *tiny, *EVERYTHING, "pretrain.run=full/pretrain", "hydra.run.dir=again")
    assert done.code == 0, done.err
    assert_same_end(both, tmp_path / "again")
    assert not (tmp_path / "again" / "pretrain").exists()
    entry = summary(tmp_path / "again")["pretrain"]
    assert entry["checkpoint"] == "full/pretrain/checkpoints/000000000032.ckpt"
    assert entry["train_hours"] == summary(both)["pretrain"]["train_hours"]
    shutil.rmtree(both)  # a resumed run no longer needs it
    assert zoo("train", "resume=again", "max_images=72").code == 0
    assert summary(tmp_path / "again")["pretrain"] == entry
    assert summary(tmp_path / "again")["images_seen"] == 72


def test_the_second_stage_begins_with_the_averaged_weights_of_the_first(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "model=gan", "model.discriminator_warmup=0.99", "ema_decay=0.5", "hydra.run.dir=run").code == 0
    vae, gan = final(tmp_path / "run" / "pretrain"), final(tmp_path / "run")
    names = [name.removeprefix("generator.") for name in gan["state_dict"] if name.startswith("generator.")]
    assert names
    for name in names:
        learnt = vae["state_dict"][f"decoder.{name}"]
        assert torch.equal(gan["state_dict"][f"generator.{name}"], learnt)
        assert not torch.equal(vae["current_model_state"][f"decoder.{name}"], learnt)


@pytest.mark.parametrize("images", [8, 24, 32, 48])
def test_killed_in_either_stage_or_between_then_resumed(both, zoo, tmp_path, images):
    stopped = cut(both, images, tmp_path / "cut")
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert "reached max_images" not in resumed.out
    assert_same_end(both / "pretrain", stopped / "pretrain")
    assert_same_end(both, stopped)
    assert summary(stopped)["images_seen"] == 64
    assert (stopped / "pretrain" / "summary.json").exists()


@pytest.mark.parametrize("images", [16, 32, 48])
def test_a_signal_in_either_stage_saves_and_names_the_whole_run(both, zoo, tiny, tmp_path, monkeypatch, images):
    log = TrainingMetricsLogger._log

    def signalled(self, trainer, model, names):
        log(self, trainer, model, names)
        if images_seen(trainer, model) == images:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingMetricsLogger, "_log", signalled)
        stopped = zoo("train", *tiny, *EVERYTHING, "hydra.run.dir=cut")
    assert stopped.code == 143
    assert f"go on with: python -m zoo.train resume={tmp_path / 'cut'}\n" in stopped.out
    assert max(checkpoints(tmp_path / "cut") + checkpoints(tmp_path / "cut" / "pretrain")) == images
    assert not (tmp_path / "cut" / "summary.json").exists()
    resumed = zoo("train", f"resume={tmp_path / 'cut'}")
    assert resumed.code == 0, resumed.err
    assert_same_end(both / "pretrain", tmp_path / "cut" / "pretrain")
    assert_same_end(both, tmp_path / "cut")


def test_a_signal_too_late_for_the_first_stage_stops_the_second(zoo, tiny, tmp_path, monkeypatch):
    save = PeriodicCheckpoint.save

    def signalled(self, trainer, model):
        save(self, trainer, model)
        if images_seen(trainer, model) == 32:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(PeriodicCheckpoint, "save", signalled)
    assert zoo("train", *tiny, *EVERYTHING, "hydra.run.dir=run").code == 143
    assert summary(tmp_path / "run" / "pretrain")["images_seen"] == 32
    assert checkpoints(tmp_path / "run") == [40]


def test_a_larger_max_images_is_for_the_second_stage(both, zoo, tmp_path):
    """What has begun keeps its length: neither is the first stage trained again, nor does it grow."""
    for images in (16, 64):
        stopped = cut(both, images, tmp_path / f"cut{images}")
        resumed = zoo("train", f"resume={stopped}", "max_images=128")
        assert resumed.code == 0, resumed.err
        assert checkpoints(stopped / "pretrain")[-1] == 32
        assert checkpoints(stopped)[-1] == 128
        assert summary(stopped)["images_seen"] == 128
        assert_same_end(both / "pretrain", stopped / "pretrain")
    refused = zoo("train", f"resume={cut(both, 16, tmp_path / 'less')}", "max_images=32")
    assert refused.code == 2
    assert "at least 40 images" in refused.err


def test_the_stage_is_a_run_of_its_own(both, zoo, tmp_path):
    stopped = cut(both, 16, tmp_path / "cut") / "pretrain"
    assert zoo("train", f"resume={stopped}").code == 0
    assert_same_end(both / "pretrain", stopped)


def test_from_scratch_by_one_option(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, *GAN, "pretrain=none", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert not (tmp_path / "run" / "pretrain").exists()
    assert "pretrain" not in summary(tmp_path / "run")
    assert [int(row["images_seen"]) for row in rows(tmp_path / "run")] == list(range(8, 72, 8))


def test_one_batch_each_is_enough(zoo, tiny, tmp_path):
    own = [option for option in tiny if not option.startswith("max_images")]
    assert zoo("train", *own, *GAN, "max_images=16", "hydra.run.dir=run").code == 0
    assert (checkpoints(tmp_path / "run" / "pretrain"), checkpoints(tmp_path / "run")) == ([8], [16])


def test_the_stage_is_configured_with_the_model():
    config = settings("model=gan", "model.latent_dim=7", "model.backbone.width=24", "pretrain.model.gamma=0.2", "pretrain.share=0.25")
    first = first_stage(config, Path("nowhere"), resuming=False)
    assert (first.model["name"], first.model["latent_dim"], first.model["gamma"]) == ("vae", 7, 0.2)
    assert first.model["backbone"] == config.model["backbone"]
    assert first.model["backbone"]["width"] == 24
    assert first.max_images == config.max_images // 4
    assert first.plain()["pretrain"] == {"run": None}
    assert first.evaluation.samples == 0
    same = [key for key in config.plain() if key not in ("model", "pretrain", "max_images", "evaluation", "logger")]
    assert len(same) > 10
    assert all(first.plain()[key] == config.plain()[key] for key in same)
    assert settings("model=gan", "pretrain=none").plain()["pretrain"] == settings("model=vae").plain()["pretrain"] == {"run": None}
    assert settings("model=gan", "pretrain=none").model["reconstruction_weight"] == 0 < settings("model=gan").model["reconstruction_weight"]


@pytest.mark.parametrize(("share", "images"), [(0.5, 32), (0.25, 16), (0.3, 16), (0.001, 8), (0.999, 56)])
def test_the_share_is_in_whole_batches_and_leaves_one_for_each_stage(share, images):
    config = settings("model=gan", "batch_size=8", "max_images=70", f"pretrain.share={share}")
    assert first_stage(config, Path("nowhere"), resuming=False).max_images == images


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "half", "null"])
def test_a_share_is_a_part(share):
    with pytest.raises(ZooError, match=r"pretrain\.share"):
        first_stage(settings("model=gan", f"pretrain.share={share}"), Path("nowhere"), resuming=False)


@pytest.mark.parametrize(("options", "said"), [
    (["model=ae", "pretrain=vae"], "AE has no earlier stage"),
    (["model=vae", "pretrain.run=vae"], "VAE has no earlier stage"),
    (["model=gan", "pretrain.model.backbone={_target_: zoo.nets.conv.ConvBackbone, image_size: 28, channels: 1, width: 32}"], "decoder"),
    (["model=gan", "pretrain.model.latent_dim=5"], "5 dimensions"),
    (["model=gan", "pretrain.model.latent_dim=0"], "latent_dim=0"),
    (["model=gan", "pretrain.run=vae", "model.latent_dim=5"], "5"),
    (["model=gan", "pretrain.run=vae", "model.backbone.output=linear"], "another decoder"),
    (["model=gan", "pretrain.run=vae", "data.image_size=32"], "28"),
    (["model=gan", "pretrain.run=ae"], "AE"),
    (["model=gan", "pretrain.run=nowhere"], "pretrain.run=nowhere does not exist"),
    (["model=gan", "pretrain.run=vae", "max_images=64"], "raise it, for example to 128"),
    (["model=gan", "max_images=8"], "at least 16 images"),
    (["model=gan", "pretrain.share=2"], "pretrain.share=2"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(zoo, tiny, tmp_path, options, said, trained):
    for name in ("vae", "ae"):
        (tmp_path / name).symlink_to(trained / name)
    refused = zoo("train", *tiny, "max_images=128", *options, "hydra.run.dir=run")
    assert refused.code == 2, refused.out
    assert said in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_left_alone(both, zoo, tiny, tmp_path):
    shutil.copytree(both / "pretrain", tmp_path / "other" / "pretrain")
    refused = zoo("train", *tiny, *EVERYTHING, "hydra.run.dir=other")
    assert refused.code == 2
    assert "already holds a run" in refused.err


def test_the_latest_run_to_start_from_is_the_one_before_this(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "2026-01-01" / "10-00-00-vae-mnist"
    for folder in (run, run.parents[1] / "of-mine", run.parents[1] / "of-mine" / "pretrain"):  # a first stage is no run to go on with
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    argv = ["zoo.train", "model=gan", "pretrain.run=latest"]
    point_hydra_at_run(argv)
    assert argv == ["zoo.train", "model=gan", f"pretrain.run={run}"]


def test_any_folder_can_be_resumed_again_and_again(tmp_path):
    run = tmp_path / "o'brien" / "a, b"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    argv = ["zoo.train", f"resume={quoted(run)}"]
    point_hydra_at_run(argv)
    once = list(argv)
    point_hydra_at_run(argv)  # as another rank does with what the first has rewritten
    assert argv == once == ["zoo.train", f"resume={quoted(run)}", f"hydra.run.dir={quoted(run)}"]


def test_each_stage_has_its_own_wandb_run(zoo, tiny, tmp_path):
    own = [option for option in tiny if not option.startswith("logger")]
    done = zoo("train", *own, *GAN, "logger.wandb.mode=offline", "logger.wandb.id=abc", "hydra.run.dir=run")
    assert done.code == 0, done.err
    for folder, ending in (("run", "-abc"), ("run/pretrain", "-abc-pretrain")):
        found = [path.name for path in (tmp_path / folder / "wandb").glob("offline-run-*")]
        assert len(found) == 1
        assert found[0].endswith(ending)


def assert_close(one: Path, other: Path) -> None:
    for stage in ("pretrain", "."):
        first, twin = ({name: value.double() for name, value in weights(run / stage).items()} for run in (one, other))
        assert furthest(first, twin) < 1e-5
        assert furthest(first, {name: torch.zeros_like(value) for name, value in first.items()}) > 1e-2


@pytest.mark.slow
def test_two_processes_equal_one_in_both_stages(trained, shell, tiny, tmp_path):
    process = shell("train", *tiny, *EVERYTHING, "trainer.devices=2", "trainer.accelerator=cpu", "hydra.run.dir=two")
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert output.count("First of two stages") == 1
    assert_close(trained / "both", tmp_path / "two")
    assert (summary(tmp_path / "two")["images_seen"], summary(tmp_path / "two")["devices"]) == (64, 2)


@pytest.mark.slow
@pytest.mark.parametrize("images", [16, 32, 48])
def test_two_processes_resume_in_either_stage(both, shell, tmp_path, images):
    stopped = cut(both, images, tmp_path / "cut")
    process = shell("train", f"resume={stopped}", "trainer.devices=2")
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert_close(both, stopped)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "share"), [("pretrain", 0.9), (".", 0.01)])
def test_a_signal_to_the_first_process_stops_both(shell, tiny, tmp_path, stage, share):
    options = [
        *tiny,
        *GAN,
        "checkpoint_every_images=20000",
        "log_every_images=400",
        "val_every_images=20000",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
    ]
    process = shell("train", *options, "max_images=40000", f"pretrain.share={share}", "hydra.run.dir=cut")
    while not (tmp_path / "cut" / stage / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 143, output
    assert output.count(f"resume={tmp_path / 'cut'}\n") == 1
    assert len(all_of(tmp_path / "cut" / stage)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("reached", [312, 1912])
def test_a_killed_process_of_either_stage_is_resumed(shell, zoo, tiny, tmp_path, reached):
    options = [
        *tiny,
        *GAN,
        "ema_decay=0.9",
        "max_images=3200",
        "checkpoint_every_images=104",
        "log_every_images=104",
        "val_every_images=800",
    ]
    assert zoo("train", *options, "hydra.run.dir=full").code == 0
    process = shell("train", *options, "hydra.run.dir=cut")
    stopped = tmp_path / "cut"
    while max([0, *checkpoints(stopped), *checkpoints(stopped / "pretrain")]) < reached:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (stopped / "summary.json").exists()
    assert bool(checkpoints(stopped)) == (reached > 1600)
    assert zoo("train", "resume=cut").code == 0
    assert_same_end(tmp_path / "full" / "pretrain", stopped / "pretrain")
    assert_same_end(tmp_path / "full", stopped)


def test_a_finished_run_stays_as_it_is(both, zoo):
    before = final(both)
    again = zoo("train", "resume=full")
    assert again.code == 0
    assert "reached max_images=64" in again.out
    assert_equal(before["state_dict"], final(both)["state_dict"])
