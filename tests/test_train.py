import csv
import json

import pytest
import torch
from PIL import Image

import zoo as package
from zoo.config.instantiate import conf_dir

NESTED = ["model.latent_dim=4", "model.autoencoder.backbone.width=16"]
SHALLOW = ["model.flow.depth=1", "model.flow.width=8"]
OWN = {
    "udt": ["data.domain=3", "model.attribute_dim=2", "batch_size=4"],  # few digits are a 3
    "cross_ae": NESTED,
    "two_stage": NESTED,
    "glow": SHALLOW,
    "fvae": ["model.backbone.blocks=1", "model.backbone.width=8", *SHALLOW],
}
OTHER = ("cross_ae", "two_stage", "glow", "fvae")  # have no such settings as the others
KINDS = {"gan": ["samples"]}


@pytest.mark.parametrize("model", sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml") if path.stem != "custom"))
def test_every_model_goes_from_images_to_pictures_and_numbers(zoo, tiny, tmp_path, model):
    common = [override for override in tiny if model not in OTHER or not override.startswith("model.")]
    done = zoo("train", *common, f"model={model}", *OWN.get(model, []), "hydra.run.dir=run")
    assert done.code == 0, done.err
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["model"] == model
    assert summary["command"].startswith("python -m zoo.train data=mnist")
    assert summary["images_seen"] == 64
    assert summary["split"] == "val"
    assert (summary["precision"], summary["accelerator"], summary["devices"]) == ("32-true", "cpu", 1)
    assert summary["metrics"]["val/images"] == 4
    loaded = package.load(run)
    assert not loaded.training
    assert loaded.sample(3, torch.Generator().manual_seed(0)).shape == (3, 1, 28, 28)
    if loaded.can_encode:
        assert 0 < summary["metrics"]["val/mse"] < 1
    assert summary["parameters"] > 0
    assert summary["images_per_second"] > 0
    assert summary["peak_memory_mib"] > 0
    assert {"torch", "zoo", "commit"} <= summary["versions"].keys()
    lines = (run / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    here = summary.get("pretrain", {"images_seen": 0})["images_seen"]  # where the clock of the last stage began
    assert len(lines) == 1 + (64 - here) // 8
    param_groups = [f"{what}/{group_name}" for what in ("learning_rate", "gradient_norm") for group_name in loaded.param_groups()]
    expected = [f"train/{name}" for name in ("loss", *param_groups, "images_per_second", "peak_memory_mib")]
    assert {*expected, *(["val/mse", "val/psnr"] if loaded.can_encode else [])} <= {*header}
    images = {path.name for path in (run / "pictures").iterdir()}
    kinds = KINDS.get(model, ["interpolations", "reconstructions", "samples"])
    some = {f"{kind}-{seen:012d}.png" for kind in kinds for seen in (32, 64) if seen > here}
    assert images - {f"transfer-{seen:012d}.png" for seen in (32, 64)} == some  # 4 validation digits may hold no 3
    assert Image.open(run / "pictures" / sorted(images)[0]).convert("L").getextrema()[1] > 0
    assert sorted(path.name for path in (run / "checkpoints").glob("*.ckpt")) == ["000000000048.ckpt", "000000000064.ckpt"]
    assert "config.yaml" in {path.name for path in run.iterdir()}


def test_the_summary_is_what_the_loaded_model_gives(zoo, tiny, tmp_path):
    """The last checkpoint, reloaded and measured by hand, has the reconstruction error that was reported."""
    from zoo.batch import to_float
    from zoo.config.instantiate import build
    from zoo.data.module import DataModule
    from zoo.training.resume import resumed_settings

    assert zoo("train", *tiny, "hydra.run.dir=run").code == 0
    model, settings = package.load(tmp_path / "run"), resumed_settings(tmp_path / "run", [])
    data = DataModule(build(settings.data.source), 8)
    batch = to_float(next(iter(data.loader("val"))))
    with torch.no_grad():
        error = ((model.reconstruct(batch.image).clamp(-1, 1) - batch.image) / 2).square().mean()
    reported = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]["val/mse"]
    assert abs(error.item() - reported) < 1e-6


def test_ae_samples_from_a_fitted_gaussian_inside_the_checkpoint(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "model=ae", "hydra.run.dir=run").code == 0
    prior = package.load(tmp_path / "run").prior
    assert not torch.equal(prior.scale_tril, torch.eye(4))


def test_pictures_show_the_same_images_and_latents_each_time(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "optimizer.lr=0", "hydra.run.dir=run").code == 0
    for kind in ("samples", "reconstructions", "interpolations"):
        first, last = ((tmp_path / "run" / "pictures" / f"{kind}-{seen:012d}.png").read_bytes() for seen in (32, 64))
        if kind != "samples":  # log γ has a learning rate of its own, but no part in a picture
            assert first == last
        assert Image.open(tmp_path / "run" / "pictures" / f"{kind}-000000000064.png").mode == "RGB"
    assert zoo("train", *tiny, "optimizer.lr=0", "hydra.run.dir=again").code == 0
    name = "pictures/samples-000000000064.png"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("options", [
    ["trainer.precision=bf16-mixed"],
    ["compile=true"],
    ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0", "ema_decay=0.9", "scheduler=cosine", "optimizer=adamw"],
    ["data.storage=device", "data.flip=true", "model.gamma=0.1", "model.beta=4", "model.kl_warmup=32"],
    ["model=ae", "model.prior._target_=zoo.priors.Mixture"],
    ["data.image_size=32", "model.backbone.norm=group", "model.backbone.output=linear"],
])  # fmt: skip
def test_ordinary_settings(zoo, tiny, options):
    done = zoo("train", *tiny, *options, "hydra.run.dir=run")
    assert done.code == 0, done.err


def test_the_logged_loss_is_whole_under_accumulation(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "trainer.accumulate_grad_batches=2", "hydra.run.dir=run").code == 0
    with open(tmp_path / "run" / "metrics.csv") as file:
        for row in csv.DictReader(file):
            assert float(row["train/loss"]) == pytest.approx(float(row["train/distortion"]) + float(row["train/rate"]), rel=1e-5)


def test_batches_of_two_domains_train(zoo, tiny):
    done = zoo("train", *tiny, "data.domain=3", "batch_size=4", "max_images=32", "hydra.run.dir=run")
    assert done.code == 0, done.err


def test_averaging_the_weights_does_not_wash_the_prior_out(zoo, tiny, tmp_path):
    """Checkpoints lie between two fits of the prior; each holds the last fit, though the weights go on."""
    settings = [*tiny, "model=ae", "ema_decay=0.5", "checkpoint_every_images=8", "keep_last_k=9", "hydra.run.dir=run"]
    assert zoo("train", *settings).code == 0
    states = {int(path.stem): torch.load(path, weights_only=True) for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")}
    fitted = states[32]["state_dict"]["prior.scale_tril"]
    assert not torch.equal(fitted, torch.eye(4))
    for seen in (40, 48, 56):
        torch.testing.assert_close(states[seen]["state_dict"]["prior.scale_tril"], fitted)
        assert torch.equal(states[seen]["current_model_state"]["prior.scale_tril"], fitted)
    assert not torch.equal(states[64]["state_dict"]["prior.scale_tril"], fitted)


def test_a_loaded_model_knows_how_far_it_was_trained(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "model.kl_warmup=128", "hydra.run.dir=run").code == 0
    model = package.load(tmp_path / "run")
    assert model.images_seen == 64
    assert model.linear_warmup(128) == 0.5


@pytest.mark.parametrize("preset", ["overfit", "fast_dev_run", "profiler", "limit"])
def test_debug_presets(zoo, tiny, tmp_path, preset):
    own = [o for o in tiny if not o.startswith(("max_images", "batch_size", "val_every", "checkpoint_every", "log_every", "logger"))]
    short = [] if preset == "fast_dev_run" else ["max_images=64", *(["batch_size=16"] if preset != "overfit" else [])]
    done = zoo("train", *own, f"debug={preset}", *short, "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "wandb").exists()
    profile = [path.read_text() for path in (tmp_path / "run").glob("*profile*")]
    assert (preset == "profiler") == any("run_training_batch" in text for text in profile)


def test_averaged_weights_are_what_is_loaded(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "ema_decay=0.5", "hydra.run.dir=run").code == 0
    saved = torch.load(tmp_path / "run" / "checkpoints" / "000000000064.ckpt", weights_only=True)
    name = "decoder.0.weight"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])
    assert torch.equal(package.load(tmp_path / "run").state_dict()[name], saved["state_dict"][name])


def test_two_runs_with_one_seed_are_bit_equal_and_another_seed_differs(zoo, tiny, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert zoo("train", *tiny, f"seed={seed}", f"hydra.run.dir={name}").code == 0
    a, b, c = (package.load(tmp_path / name).state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_wandb_logs_offline_without_an_account(zoo, tiny, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    own = [o for o in tiny if not o.startswith("logger")]
    done = zoo("train", *own, "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 1
    assert "wandb sync run/wandb" in done.out


def test_tensorboard_is_a_choice(zoo, tiny, tmp_path):
    own = [o for o in tiny if not o.startswith("logger")]
    assert zoo("train", *own, "logger=tensorboard", "hydra.run.dir=run").code == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert (tmp_path / "run" / "metrics.csv").exists()


def test_help_names_groups_options_and_examples(zoo):
    out = zoo("train", "--help").out
    for part in (
        "model: acai, ae, cross_ae, custom, fvae, gan, glow, ltae, two_stage, udt, vae, vaegan",
        "data: celeba",
        "max_images=",
        "trainer.devices=8",
        "python -m zoo.train model=ae data=mnist",
    ):
        assert part in out
    assert "batch_size: 32" in zoo("train", "--cfg", "job").out
    assert "data.root=DIR" in zoo("prepare", "--help").out
