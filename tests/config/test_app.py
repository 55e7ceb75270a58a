"""Bad input: one sentence that names the thing and the remedy, exit code 2, nothing half-written."""

import pytest
import torch

CASES = {
    "model=vaee": ["no model 'vaee'", "did you mean 'vae'"],
    "data=celeb": ["no data 'celeb'", "did you mean 'celeba'"],
    "modle=vae": ["no setting 'modle'", "did you mean 'model'"],
    "optimizer.lrr=1": ["no setting 'optimizer.lrr'", "did you mean 'optimizer.lr'"],
    "model.latent_dimm=3": ["model.latent_dim'"],
    "+model.extra=3": ["zoo.models.vae.VAE takes no argument 'extra'", "beta"],
    "model={a": ["is not an override"],
    "data=celeba": ["data.root=DIR"],
    "batch_size=100000": ["batch size 100000 is larger than the 36 images", "lower batch_size"],
    "max_images=1": ["max_images=1 images is less than one batch"],
    "data.image_size=50": ["50 pixels", "data.image_size"],
    "model.backbone.output=sigmoid": ["sigmoid", "tanh"],
    "model.gamma=-1": ["model.gamma"],
    "trainer.devices=8": ["8 devices were asked for", "trainer.devices"],
    "trainer.accelerator=gpu": ["GPUs were asked for, but this machine has 0"],
    "trainer=ddp": ["8 GPUs were asked for, but this machine has 0"],
    "trainer.precision=16-mixed": ["needs a GPU", "bf16-mixed"],
    "trainer.precision=8": ["not known"],
    "trainer.accumulate_grad_batches=3": ["cannot be divided"],
    "trainer.accumulate_grad_batches=0": ["trainer.accumulate_grad_batches=0", "at least 1"],
    "batch_size=abc": ["batch_size=abc", "whole number"],
    "seed=-1": ["seed=-1", "at least 0"],
    "ema_decay=2": ["ema_decay=2", "below 1"],
    "trainer.gradient_clip_val=abc": ["trainer.gradient_clip_val=abc", "number"],
    "trainer.gradient_clip_val=0": ["trainer.gradient_clip_val=0", "above 0"],
    "optimizer.lr=fast": ["optimizer.lr=fast", "number"],
    "optimizer._target_=torch.optim.RMSprop": ["RMSprop does not take these settings"],
    "scheduler.warmup=1": ["scheduler.warmup=1", "below 1"],
    "val_every_images=-5": ["val_every_images=-5", "at least 1"],
    "keep_last_k=0": ["keep_last_k=0", "at least 1"],
    "channels_last=abc": ["true or false"],
    "model.latent_dim=0": ["model.latent_dim=0", "at least 1"],
    "data.limit=0": ["data.limit=0", "at least 1"],
    "hydra.run.dir=/dev/null/run": ["/dev/null"],
    "+model.param_groups.critic.lr=1": ["parameter group 'critic'", "autoencoder"],
    "model.param_groups={critic:{lr:1}}": ["+model.param_groups.name=value"],
    "data.storage=disk": ["disk"],
    "data.domain=Glasses": ["Glasses"],
    "resume=nowhere": ["resume=nowhere is not a run's folder"],
    "resume=latest": ["found no run"],
    "model._target_=os.system": ["os.system", "may not be instantiated"],
    "data.cache=/proc/none": ["/proc/none"],
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the cases are those of a machine without a GPU")
@pytest.mark.parametrize("argument", CASES)
def test_one_sentence_exit_code_two_and_nothing_left(zoo, tiny, tmp_path, argument):
    key = argument.partition("=")[0]
    others = [] if argument == "data=celeba" else [o for o in tiny if o.partition("=")[0] != key]
    done = zoo("train", *others, *(["max_images=1000000"] if key == "batch_size" else []), argument)
    assert done.code == 2, (done.out, done.err)
    sentence = done.err.strip().splitlines()[-1]
    for part in CASES[argument]:
        assert part in sentence, sentence
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "hydra.run.dir=run").code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = zoo("train", *tiny, "hydra.run.dir=run")
    assert again.code == 2
    assert "already holds a run" in again.err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_divergence_is_named_and_the_last_good_checkpoint_stays(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, "optimizer.lr=1e30", "model.gamma=0.001", "hydra.run.dir=run")
    assert done.code == 2
    assert "diverged" in done.err
    assert "Traceback" not in done.err


def test_training_that_is_stuck_is_named(zoo, tiny):
    done = zoo("train", *tiny, "model=ae", "optimizer.lr=100", "max_images=320", "hydra.run.dir=run")  # the tanh saturates
    assert done.code == 2
    assert "Training is stuck" in done.err
    assert "Traceback" not in done.err


def test_codes_that_tell_nothing_are_named(zoo, tiny):
    done = zoo("train", *tiny, "model=ae", "optimizer.lr=1e-12", "hydra.run.dir=run")
    assert done.code == 0
    assert "all alike after 64 images" in done.err


def test_prepare_says_what_it_has(zoo, digits, tmp_path):
    done = zoo("prepare", "data=mnist", f"data.root={digits}")
    assert done.code == 0
    assert "52 images of 1×28×28 (36 train, 4 val, 12 test), 10 attributes" in done.out


def test_only_faces_can_be_exported(zoo, digits, tmp_path):
    done = zoo("prepare", "data=mnist", f"data.root={digits}", "export=there")
    assert done.code == 2
    assert "data=faces" in done.err
    assert not (tmp_path / "there").exists()


def test_prepare_names_a_missing_folder(zoo, tmp_path):
    for data in ("celeba", "celeba_hq", "mnist", "fashion_mnist", "cifar10", "svhn", "folder"):
        done = zoo("prepare", f"data={data}", "data.root=nowhere")
        assert done.code == 2
        assert "nowhere" in done.err
        assert "data.root=DIR" in done.err
        assert len(done.err.strip().splitlines()) == 1
