"""What all adversarial methods will stand on: a toy game of two parameter groups under the real Trainer."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.func import functional_call

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.models.training_config import TrainingConfig, seed_of


class Game(Autoencoder):
    """An autoencoder and a critic that is trained to call reconstructions noisy; one loss for both."""

    def __init__(self, **options):
        super().__init__((1, 2, 2), 2, **options)
        self.autoencoder = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4))
        self.critic = nn.Linear(4, 1)
        self.frozen_groups_at: dict[int, tuple[str, ...]] = {}
        self.drawn: list[torch.Tensor] = []

    def param_groups(self):
        return {"autoencoder": [*self.autoencoder.parameters()], "critic": [*self.critic.parameters()]}

    def frozen_groups(self):
        return self.frozen_groups_at.get(self.trainer.global_step, ())

    def terms(self, image, noise):
        """Each parameter group's own objective, written separately."""
        output = self.autoencoder(image)
        detached = {name: p.detach() for name, p in self.critic.named_parameters()}
        g_loss = functional_call(self.critic, detached, (output,)).square().mean()
        d_loss = (self.critic(output.detach()) - 1).square().mean() + self.critic(image + 0.1 * noise).square().mean()
        return (output - image).square().mean() + 0.5 * g_loss, d_loss

    def losses(self, batch):
        image = batch.image.flatten(1)
        noise = self.normal(len(image), 4)
        if not torch.compiler.is_compiling():
            self.drawn.append(noise)
        autoencoder, critic = self.terms(image, noise)
        return {"loss": autoencoder + critic, "autoencoder": autoencoder, "critic": critic}


class Batches:
    """Lightning would take a list for several loaders."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Data(pl.LightningDataModule):
    def __init__(self, steps: int = 6, batch_size: int = 8):
        super().__init__()
        images = torch.rand(steps * batch_size, 1, 2, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
        self.batches = [Batch(part, part[:, :0, 0, 0], torch.arange(batch_size)) for part in images.split(batch_size)]

    def train_dataloader(self):
        return Batches(self.batches)

    def some_images(self, split, count):
        return self.batches[0]

    def read(self, split):
        return iter(self.batches if split == "train" else self.batches[:1])


class Record(pl.Callback):
    def __init__(self):
        self.weights, self.rates, self.norms = [], [], []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.weights.append({name: p.detach().clone() for name, p in pl_module.named_parameters()})
        self.norms.append({name: norm.item() for name, norm in pl_module.gradient_norms.items()})


def play(steps: int = 6, frozen_groups_at=None, training_config=None, model=None, gradient_clip_val=None, **options) -> tuple[Game, Record]:
    torch.manual_seed(0)
    model = model or Game(**options)
    model.frozen_groups_at = frozen_groups_at or {}
    settings = {"batch_size": 8, "max_images": 8 * steps, "optimizer": lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.5, 0.999))}
    model.training_config = TrainingConfig(**(settings | (training_config or {})))
    record = Record()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, callbacks=[record], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0,
        gradient_clip_val=gradient_clip_val,
    )  # fmt: skip
    trainer.fit(model, Data(steps))
    return model, record


def test_the_one_loss_gives_each_group_its_own_gradient():
    torch.manual_seed(0)
    model = Game().double()
    image, noise = torch.randn(2, 8, 4, dtype=torch.float64)
    own = model.terms(image, noise)
    together = torch.autograd.grad(sum(model.terms(image, noise)), [p for ps in model.param_groups().values() for p in ps])
    apart = [g for term, ps in zip(own, model.param_groups().values(), strict=True) for g in torch.autograd.grad(term, ps)]
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_frozen_group_moves_by_exactly_nothing_and_starts_at_one_learning_rate():
    _, record = play(frozen_groups_at={step: ("critic",) for step in range(4)})
    torch.manual_seed(0)
    start = dict(Game().named_parameters())
    for name in ("critic.weight", "critic.bias"):
        assert torch.equal(record.weights[3][name], start[name])
        first_move = (record.weights[4][name] - record.weights[3][name]).abs()
        torch.testing.assert_close(first_move, torch.full_like(first_move, 0.01), rtol=1e-3, atol=0)
    assert not torch.equal(record.weights[0]["autoencoder.0.weight"], start["autoencoder.0.weight"])


def test_groups_have_their_own_rates_betas_and_schedules():
    model, record = play(
        param_groups={"critic": {"lr": 0.5, "betas": (0.0, 0.9), "weight_decay": 0.1}},
        training_config={"schedule": lambda spent: 1 - spent, "group_schedules": {"critic": lambda spent: 1.0}},
    )
    assert np.allclose(record.rates, [[0.01 * (1 - step / 6), 0.5] for step in range(6)])
    groups = {group["name"]: group for group in model.trainer.optimizers[0].param_groups}
    assert groups["critic"]["betas"] == (0.0, 0.9)
    assert groups["critic"]["weight_decay"] == 0.1
    assert groups["autoencoder"]["betas"] == (0.5, 0.999)


def test_each_group_is_clipped_on_its_own_and_its_norm_is_kept():
    _, free = play(steps=1)
    descent = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=1.0)}
    _, clipped = play(steps=1, training_config=descent, gradient_clip_val=free.norms[0]["critic"] / 2)
    _, plain = play(steps=1, training_config=descent)
    assert clipped.norms[0] == free.norms[0]
    torch.manual_seed(0)
    start = {name: p.detach() for name, p in Game().named_parameters()}

    def moved(record, group_name):
        return torch.cat([(record.weights[0][n] - start[n]).flatten() for n in start if n.startswith(group_name)])

    torch.testing.assert_close(moved(clipped, "critic"), moved(plain, "critic") / 2, rtol=1e-4, atol=1e-6)
    expected = min(1.0, free.norms[0]["critic"] / 2 / free.norms[0]["autoencoder"])
    torch.testing.assert_close(moved(clipped, "autoencoder"), moved(plain, "autoencoder") * expected, rtol=1e-4, atol=1e-6)


def test_noise_belongs_to_the_position_in_the_global_batch():
    model = Game()
    model.set_batch_rng((0, 128), 0, 8, 8)
    whole, second = model.normal(8, 3), model.uniform(8)
    for first in (0, 2, 4, 6):
        model.set_batch_rng((0, 128), first, 2, 8)
        assert torch.equal(model.normal(2, 3), whole[first : first + 2])
        assert torch.equal(model.uniform(2), second[first : first + 2])
    model.set_batch_rng((0, 136), 0, 8, 8)
    assert not torch.equal(model.normal(8, 3), whole)


def test_noise_for_another_number_of_rows_is_an_error():
    model = Game()
    model.set_batch_rng((0, 0), 2, 2, 8)
    with pytest.raises(ValueError, match="3 rows of noise for a batch of 2"):
        model.normal(3)


def test_noise_differs_from_step_to_step_and_repeats_with_the_seed():
    first, second, other = play()[0].drawn, play()[0].drawn, play(training_config={"seed": 1})[0].drawn
    assert len({tuple(noise.flatten().tolist()) for noise in first}) == 6
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_compiled_training_equals_eager_training():
    _, eager = play()
    _, compiled = play(training_config={"compile": True})
    for name, weight in eager.weights[-1].items():
        torch.testing.assert_close(compiled.weights[-1][name], weight, rtol=1e-5, atol=1e-6)


def test_the_clock_is_a_tensor_that_is_no_buffer():
    model, _ = play()
    assert model.images_seen == 40  # at the start of the sixth batch
    assert not any("images_seen" in name for name in model.state_dict())


def test_an_unknown_group_is_refused():
    with pytest.raises(ZooError, match="critik"):
        play(param_groups={"critik": {"lr": 1.0}})


def test_groups_must_hold_every_parameter_once():
    model = Game()
    model.training_config = TrainingConfig(8, 8, torch.optim.Adam)
    model.param_groups = lambda: {"autoencoder": [*model.autoencoder.parameters()]}
    with pytest.raises(AssertionError, match="exactly once"):
        model.build_optimizer()


def test_seeds_of_neighbours_are_unrelated():
    seeds = {seed_of(a, b) for a in range(-2, 20) for b in range(0, 2000, 64)}
    assert len(seeds) == 22 * 32
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2) != seed_of(2, 1)


def test_check_finite_loss_stops_before_a_weight_moves():
    class Diverging(Game):
        check_finite_loss = True

        def losses(self, batch):
            losses = super().losses(batch)
            return losses | {"loss": losses["loss"] * (float("inf") if self.trainer.global_step == 2 else 1)}

        def locate_nonfinite(self, batch):
            return f"a batch of {len(batch.image)}"

    torch.manual_seed(0)
    model = Diverging()
    with pytest.raises(ZooError, match=r"after 16 images.*\(a batch of 8\)"):
        play(model=model)
    _, record = play(steps=2)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, record.weights[-1][name])


def test_the_data_are_shown_at_the_start_of_every_session():
    class Curious(Game):
        def prepare_data_cache(self, read):
            assert self.trainer.global_step == 0
            self.shown = {split: [batch.image.shape for batch in read(split)] for split in ("train", "val")}

    model = Curious()
    play(model=model)
    assert model.shown == {"train": [(8, 1, 2, 2)] * 6, "val": [(8, 1, 2, 2)]}
