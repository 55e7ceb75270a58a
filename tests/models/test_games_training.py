"""How the four games are trained: rest, gating, overflow, compilation, and whole runs with clipping, accumulation and bf16."""

import csv
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision

from tests.models.games import (
    GAMES,
    GROUPS,
    OWN,
    BatchNormBackbone,
    batch_for,
    conv,
    gan,
    gradients,
    losses,
    same_metrics,
    set_rng,
    short_run,
    train,
    udt,
    vae,
    vaegan,
    weights,
)
from tests.training.test_resume import assert_same_end, cut_after_the_first, final
from zoo.models.gan import GAN


@pytest.mark.parametrize("game", GAMES)
def test_every_parameter_receives_a_gradient(game):
    model = GAMES[game]()
    losses(model, batch_for(model))["loss"].backward()
    assert model.param_groups().keys() == GROUPS[game]
    for parameters in model.param_groups().values():
        for parameter in parameters:
            assert parameter.grad.isfinite().all()
            assert parameter.grad.abs().max() > 0


# Rest -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_frozen_generator_moves_by_exactly_nothing_and_starts_at_one_learning_rate(pieces):
    """24 images of rest are three steps of 8."""
    record = train(gan(discriminator_warmup=0.6), steps=5, pieces=pieces, lr=1e-3)
    assert record.moved == [{"discriminator"}] * 3 + [{"generator", "discriminator"}] * 2
    names = [name for name in record.weights[0] if name.startswith("generator")]
    for name in names:
        assert all(torch.equal(record.weights[step][name], record.weights[0][name]) for step in range(4))
        assert not any(name in steps for steps in record.steps[:3])  # Adam has not heard of it
        first_move = (record.weights[4][name] - record.weights[3][name]).abs()
        assert first_move.max() <= 1e-3 * (1 + 1e-3)
        assert record.steps[3][name] == 1
    largest = max((record.weights[4][name] - record.weights[3][name]).abs().max() for name in names)
    assert largest > 0.99e-3
    assert all(steps[name] == step + 1 for step, steps in enumerate(record.steps) for name in steps if name.startswith("discriminator"))


def test_a_generator_that_has_moved_is_never_frozen_again():
    """A resumed run may have a max_images of which the images seen are but a small share."""
    model = gan(discriminator_warmup=0.5)
    train(model, steps=4)
    model.training_config.max_images *= 100
    assert not model.frozen_groups()
    frozen_groups = gan(discriminator_warmup=0.99)
    train(frozen_groups, steps=4)
    frozen_groups.training_config.max_images *= 100
    assert "generator" in frozen_groups.frozen_groups()


def test_the_vaes_encoder_never_moves():
    model = gan(reconstruction_weight=1.0, reconstruction_decay_images=16)
    model.start_from(vae())
    record = train(model, steps=3)
    assert record.moved == [{"generator", "discriminator"}] * 3
    for name, value in record.weights[-1].items():
        assert name.startswith("encoder") == torch.equal(value, record.weights[0][name])


@pytest.mark.parametrize("pieces", [1, 2])
def test_outside_of_the_equilibrium_who_is_ahead_is_frozen(pieces):
    """The losses of the discriminator in a step, over all of its pieces, decide who moves in that very step."""
    model = vaegan(margin=0.02)
    step, decided, d_losses = model.training_step, [], []

    def recorded(batch, batch_idx):
        found = step(batch, batch_idx)
        d_losses.append([found["d_loss_real"].item(), found["d_loss_fake"].item()])
        return found

    model.training_step = recorded
    record = train(model, steps=12, pieces=pieces, lr=3e-3)
    for first in range(0, len(d_losses), pieces):
        real, fake = (sum(pair[kind] for pair in d_losses[first : first + pieces]) / pieces for kind in (0, 1))
        discriminator, decoder = not (real < 0.66 or fake < 0.66), not (real > 0.70 or fake > 0.70)
        if not (discriminator or decoder):
            discriminator = decoder = True
        decided.append({"encoder"} | ({"discriminator"} if discriminator else set()) | ({"decoder"} if decoder else set()))
    assert record.moved == decided
    assert len({frozenset(moved) for moved in decided}) > 1


# Overflow ---------------------------------------------------------------------------------------------------------------


class Overflow(pl.Callback):
    """Makes one gradient of the last parameter group infinite in the second step."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 1:
            [*pl_module.param_groups().values()][-1][0].grad[0] = math.inf


def assert_overflow_skips_the_step(accelerator: str) -> None:
    """Trains all games in float16: an overflow in one parameter group's gradient skips the step for all, the next one is taken."""
    device = "cuda" if accelerator == "gpu" else "cpu"
    for game, make in GAMES.items():
        precision = MixedPrecision("16-mixed", device, torch.amp.GradScaler(device, init_scale=4.0))  # no overflow of its own
        record = train(make(), steps=3, gradient_clip_val=1.0, accelerator=accelerator, plugins=[precision], callbacks=[Overflow()])
        assert record.moved == [GROUPS[game], set(), GROUPS[game]], (game, record.moved)
        assert [set(steps.values()) for steps in record.steps] == [{1.0}, {1.0}, {2.0}], game
        assert precision.scaler.get_scale() == 2.0


def test_a_float16_overflow_skips_the_step_for_all_groups():
    assert_overflow_skips_the_step("cpu")


@pytest.mark.skipif(not os.path.exists("/dev/nvidiactl"), reason="needs a GPU")
def test_a_float16_overflow_skips_the_step_for_all_groups_on_a_gpu():
    """In a process of its own: the other tests see no GPU."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    code = "from tests.models.test_games_training import assert_overflow_skips_the_step as skips; skips('gpu'); print('all four')"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "all four" in done.stdout


# Compilation ------------------------------------------------------------------------------------------------------------

SMALLEST = {name: lambda make=make, **options: make(conv(8), **options) for name, make in GAMES.items()}
SMALLEST["vaegan"] = lambda: vaegan(BatchNormBackbone())
SMALLEST["vaegan minimax"] = lambda: vaegan(BatchNormBackbone(), objective="minimax", fakes="prior")
SMALLEST["udt"] = lambda: udt(conv(8), kl_weight=0.1)
SMALLEST["gan from a vae"] = lambda: from_vae(conv(8))


def from_vae(backbone) -> GAN:
    model = gan(backbone, reconstruction_weight=1.0, reconstruction_decay_images=16)
    model.start_from(vae(backbone))
    return model


def assert_compiled_equals_eager(game: str, backend: str) -> None:
    import torch._inductor.config as inductor

    model, twin = SMALLEST[game](), SMALLEST[game]()
    batch = batch_for(model)
    eager = losses(twin, batch)
    with inductor.patch(fallback_random=True):
        compiled = torch.compile(model.losses, fullgraph=True, backend=backend)
        set_rng(model, 4)
        found = compiled(batch)
        assert found.keys() == eager.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, eager[name], rtol=1e-4, atol=1e-6)
        own = torch.autograd.grad(found["loss"], [p for parameters in model.param_groups().values() for p in parameters])
    others = gradients(eager["loss"], [p for parameters in twin.param_groups().values() for p in parameters])
    for ours, theirs in zip(own, others, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    for name, buffer in model.named_buffers():  # statistics of BatchNorm
        torch.testing.assert_close(buffer, twin.get_buffer(name))


@pytest.mark.parametrize("game", SMALLEST)
def test_the_losses_are_one_graph(game):
    assert_compiled_equals_eager(game, "aot_eager")


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
@pytest.mark.parametrize("game", [name if name == "gan from a vae" else pytest.param(name, marks=pytest.mark.slow) for name in SMALLEST])
def test_compiled_losses_and_gradients_equal_eager_ones(game):
    assert_compiled_equals_eager(game, "inductor")


# Whole runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hundred(tmp_path_factory) -> list[str]:
    """Overrides for a run of seconds on a hundred digits."""
    return short_run(tmp_path_factory.mktemp("hundred"))


@pytest.mark.parametrize("game", OWN)
def test_bf16_clipping_and_accumulation_at_once(zoo, hundred, tmp_path, game):
    settings = ["trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1", "trainer.accumulate_grad_batches=2", "hydra.run.dir=run"]
    done = zoo("train", *hundred, *OWN[game], *settings)
    assert done.code == 0, done.err
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(math.isfinite(float(value)) for row in rows for value in row.values() if value)
    for group_name in GROUPS[game]:
        assert all(float(row[f"train/learning_rate/{group_name}"]) > 0 for row in rows)
        assert any(row[f"train/gradient_norm/{group_name}"] for row in rows)


@pytest.mark.parametrize("game", OWN)
def test_accumulation_equals_one_batch(zoo, hundred, tmp_path, game):
    """Pairs and domains stay together, and a step's losses are the mean over its pieces."""
    for pieces in (1, 2):
        done = zoo("train", *hundred, *OWN[game], f"trainer.accumulate_grad_batches={pieces}", f"hydra.run.dir={pieces}")
        assert done.code == 0, done.err
    whole, pieced = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert max((whole[name] - pieced[name]).abs().max().item() for name in whole) < 1e-5
    same_metrics(tmp_path / "1", tmp_path / "2", game)


@pytest.mark.parametrize("game", OWN)
def test_a_resumed_run_equals_the_uninterrupted_one(zoo, hundred, tmp_path, game):
    """With averaged weights: an index, as of UDT's domain, must not be averaged."""
    settings = [*hundred, *OWN[game], "ema_decay=0.9", "checkpoint_every_images=16", "keep_last_k=9"]
    assert zoo("train", *settings, "hydra.run.dir=full").code == 0
    cut_after_the_first(tmp_path / "full", tmp_path / "cut")
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert_same_end(tmp_path / "full", tmp_path / "cut")
    if game == "udt":
        assert int(final(tmp_path / "full")["state_dict"]["column"]) == 3


# Bad input --------------------------------------------------------------------------------------------------------------

UDT, ACAI, VAEGAN = ["model=udt", "data.domain=3", "model.attribute_dim=2"], ["model=acai"], ["model=vaegan", "model.feature_layer=2"]
BAD = {
    "a domain that does not exist": ([*UDT, "data.domain=33"], ["no attribute '33'", "did you mean '3'"]),
    "no domain": ([*UDT, "data.domain=null"], ["model=udt", "set data.domain"]),
    "a constant attribute": ([*UDT, "data.domain=5", "data.limit=8", "batch_size=4"], ["5=0", "choose another"]),  # those 8 hold no five
    "too few images for half a batch": ([*UDT, "batch_size=32"], ["'3'", "half a batch of 32", "lower batch_size"]),
    "no content": ([*UDT, "model.attribute_dim=8"], ["attribute_dim is 8", "latent_dim=8"]),
    "an odd batch for UDT": ([*UDT, "batch_size=7"], ["groups of 2", "multiple of 2"]),
    "one image for UDT": ([*UDT, "batch_size=1"], ["groups of 2", "multiple of 2"]),
    "an odd batch for ACAI": ([*ACAI, "batch_size=7"], ["groups of 2", "batch_size=7", "multiple of 2"]),
    "one image for ACAI": ([*ACAI, "batch_size=1"], ["groups of 2", "batch_size=1", "multiple of 2"]),
    "odd pieces": ([*ACAI, "batch_size=6", "trainer.accumulate_grad_batches=2"], ["groups of 2", "leaves 3 to each", "multiple of 4"]),
    "a code that fills no map": ([*ACAI, "model/backbone=acai", "data.image_size=32", "model.latent_dim=30"], ["multiple of 16"]),
    "feature layer 0": ([*VAEGAN, "model.feature_layer=0"], ["feature_layer is 0", "from 1 to 2"]),
    "feature layer 9": ([*VAEGAN, "model.feature_layer=9"], ["feature_layer is 9", "from 1 to 2"]),
    "a learning rate that nobody takes": (["model=vaegan", "optimizer.lr=1"], ["no effect", "model.param_groups.encoder.lr"]),
    "an unknown objective": ([*VAEGAN, "model.objective=wgan"], ["model.objective=wgan", "non_saturating or minimax"]),
    "a reconstruction term without a VAE": (
        ["model=gan", "pretrain=none", "model.reconstruction_weight=1", "model.reconstruction_decay_images=8"],
        ["model.reconstruction_weight", "pretrain.run=RUN"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(zoo, hundred, tmp_path, case):
    own, parts = BAD[case]
    settings = {argument.partition("=")[0]: argument for argument in [*hundred, *own]}  # the last one counts
    done = zoo("train", *settings.values())
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.strip().splitlines()) == 1, done.err
    for part in parts:
        assert part in done.err, done.err
    assert list(tmp_path.iterdir()) == []
