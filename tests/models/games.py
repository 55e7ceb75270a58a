"""The adversarial games in small: models, batches, and gradients of objectives that are written out separately."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tests.data.makers import make_mnist
from tests.models.test_base import Batches
from zoo.batch import Batch
from zoo.models.acai import ACAI
from zoo.models.base import Autoencoder
from zoo.models.gan import GAN
from zoo.models.training_config import TrainingConfig
from zoo.models.udt import UDT
from zoo.models.vae import VAE
from zoo.models.vaegan import VAEGAN
from zoo.nets.conv import ConvBackbone
from zoo.nets.discriminator import Discriminator
from zoo.runs.checkpoint import all_of

OWN = {
    "acai": ["model=acai"],
    "udt": ["model=udt", "data.domain=3", "model.attribute_dim=2", "model.kl_weight=1e-4"],
    "gan": ["model=gan", "pretrain=none", "model.discriminator_warmup=0.25"],
    "vaegan": ["model=vaegan", "model/backbone=conv", "model.gamma=1e-3", "model.reconstruction=features", "model.margin=0.08"],
}
GROUPS = {
    "acai": {"autoencoder", "critic"},
    "udt": {"autoencoder", "discriminator"},
    "gan": {"generator", "discriminator"},
    "vaegan": {"encoder", "decoder", "discriminator"},
}
KEY = (3, 64)  # of the random stream of a batch
NAMES = ("Smiling", "Eyeglasses", "Bald")  # attributes of the batches; the domain is the one in the middle


def conv(size: int = 16, channels: int = 1, **options: Any) -> ConvBackbone:
    """Two convolutions at 16 pixels."""
    return ConvBackbone(size, channels, **{"width": 16, "max_width": 16, **options})


class BatchNormBackbone:
    """As the published networks of VAE-GAN, with BatchNorm everywhere, but for 8 pixels."""

    image_shape = (1, 8, 8)

    def encoder(self, out_features: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, out_features)
        )

    def decoder(self, latent_dim: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(latent_dim, 8 * 16, bias=False), nn.BatchNorm1d(8 * 16), nn.ReLU(), nn.Unflatten(1, (8, 4, 4)),
            nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def discriminator(self, feature_layer: int) -> Discriminator:
        convolutions = [nn.Conv2d(1, 8, 4, 2, 1, bias=False), nn.Conv2d(8, 8, 4, 2, 1, bias=False)]
        after = [nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()) for _ in convolutions]
        head = nn.Sequential(nn.Flatten(), nn.Linear(32, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        return Discriminator(convolutions, after, head, feature_layer)


def acai(backbone: Any = None, latent_dim: int = 8, **options: Any) -> ACAI:
    torch.manual_seed(0)
    return ACAI(backbone=backbone or conv(), latent_dim=latent_dim, **options)


def udt(backbone: Any = None, latent_dim: int = 8, attribute_dim: int = 2, **options: Any) -> UDT:
    torch.manual_seed(0)
    model = UDT(backbone=backbone or conv(), latent_dim=latent_dim, attribute_dim=attribute_dim, domain=NAMES[1], **options)
    model.set_attribute_names(NAMES)
    return model


def gan(backbone: Any = None, latent_dim: int = 4, **options: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(backbone=backbone or conv(), latent_dim=latent_dim, **options)


def vae(backbone: Any = None, latent_dim: int = 4, **options: Any) -> VAE:
    torch.manual_seed(1)
    return VAE(backbone=backbone or conv(), latent_dim=latent_dim, **options)


def vaegan(backbone: Any = None, latent_dim: int = 4, gamma: float = 0.01, feature_layer: int = 2, **options: Any) -> VAEGAN:
    torch.manual_seed(0)
    return VAEGAN(backbone=backbone or conv(), latent_dim=latent_dim, gamma=gamma, feature_layer=feature_layer, **options)


GAMES: dict[str, Callable[..., Any]] = {"acai": acai, "udt": udt, "gan": gan, "vaegan": vaegan}


def batch_for(model: Autoencoder, count: int = 4, seed: int = 1, rich: list[int] | None = None) -> Batch:
    """Smooth random images in [-1, 1]; even rows lack "Eyeglasses" and odd rows have them, or as `rich` says."""
    generator = torch.Generator().manual_seed(seed)
    channels, size, _ = model.image_shape
    coarse = torch.rand(count, channels, 4, 4, generator=generator) * 2 - 1
    image = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(-1, 1).to(model.dtype)
    attributes = torch.randint(0, 2, (count, len(NAMES)), generator=generator, dtype=torch.uint8)
    attributes[:, 1] = torch.tensor(rich) if rich is not None else torch.arange(count) % 2
    return Batch(image, attributes, torch.arange(count))


def set_rng(model: Autoencoder, count: int) -> None:
    """The next draws of the model are those of its losses for a batch of `count` images."""
    model.set_batch_rng(KEY, 0, count, count)


def losses(model: Autoencoder, batch: Batch) -> dict[str, Tensor]:
    set_rng(model, len(batch.image))
    return model.losses(batch)


def gradients(term: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """The gradient of a term; zeros where it does not reach."""
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True) if term.requires_grad else [None] * len(parameters)
    return [torch.zeros_like(p) if gradient is None else gradient for gradient, p in zip(found, parameters, strict=True)]


def of_groups(model: Autoencoder, loss: Tensor) -> dict[str, list[Tensor]]:
    """The gradient of the one loss, by parameter group."""
    return {name: gradients(loss, parameters) for name, parameters in model.param_groups().items()}


def apart(model: Autoencoder, objectives: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """The gradient of each parameter group's own objective with respect to its own parameters alone."""
    param_groups = model.param_groups()
    assert objectives.keys() == param_groups.keys()
    return {name: gradients(objectives[name], parameters) for name, parameters in param_groups.items()}


def deviation(model: Autoencoder, loss: Tensor, objectives: dict[str, Tensor]) -> float:
    """How far the gradient of the one loss is from those of the groups' own objectives: over all parameters the largest difference of two
    values, in relation to the largest value of that parameter's gradient, which must not be 0."""
    worst, ours, theirs = 0.0, of_groups(model, loss), apart(model, objectives)
    for name, found in ours.items():
        for own, other in zip(found, theirs[name], strict=True):
            assert other.abs().max() > 0, name
            worst = max(worst, ((own - other).abs().max() / other.abs().max()).item())
    return worst


def silent(model: Autoencoder, term: Tensor, group_name: str) -> bool:
    """Whether a term leaves this parameter group alone, to the last bit."""
    return all(not gradient.any() for gradient in gradients(term, model.param_groups()[group_name]))


def assert_objectives_hold_under_bf16(model: Autoencoder, written: Callable[[Any, Batch], dict[str, Tensor]]) -> None:
    """Under autocast the losses are float32, and the one loss still gives each parameter group the gradient of its written objective."""
    batch = batch_for(model, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model, batch)
        objectives = written(model, batch)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in found.values())
    assert deviation(model, found["loss"], objectives) < 0.1


def assert_same_under_bf16_and_compiled(model: Autoencoder) -> None:
    """Losses are float32 under autocast and near those without it; compiled to one graph they are the same."""
    batch = batch_for(model, 8)
    set_rng(model, 8)
    plain = model.losses(batch)
    set_rng(model, 8)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model.losses(batch)
    assert all(value.dtype == torch.float32 for value in narrow.values())
    torch.testing.assert_close(narrow["loss"], plain["loss"], rtol=0.02, atol=0)
    set_rng(model, 8)
    compiled = torch.compile(model.losses, fullgraph=True, backend="eager")(batch)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value)


def assert_same_statistics(net: nn.Module, twin: nn.Module, batches: int = 1) -> None:
    """The buffers of BatchNorm are equal, the count of batches among them, and have moved from where they start."""
    buffers = dict(net.named_buffers())
    assert buffers
    for name, other in twin.named_buffers():
        torch.testing.assert_close(buffers[name], other, rtol=1e-5, atol=1e-7)
        assert not name.endswith("num_batches_tracked") or other == batches


def overfit(model: Autoencoder, steps: int, lr: float = 3e-3) -> float:
    """Trains on 16 images over and over; the squared error of their reconstructions, 1 for a model that only knows their mean."""
    batch = batch_for(model, 16)
    optimizer = torch.optim.Adam([{"params": parameters} for parameters in model.param_groups().values()], lr=lr, betas=(0.5, 0.999))
    for step in range(steps):
        model.set_batch_rng((0, 16 * step), 0, 16, 16)
        optimizer.zero_grad()
        model.losses(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.reconstruct(batch.image, batch.attributes) - batch.image).square().mean()
    return (error / (batch.image - batch.image.mean(0)).square().mean()).item()


class Record(pl.Callback):
    """What every step leaves: weights, parameter groups that have moved, Adam's count of steps for each parameter."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.moved: list[set[str]] = []
        self.steps: list[dict[str, float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._keep(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if (_[-1] + 1) % trainer.accumulate_grad_batches == 0:
            self._keep(pl_module)
            before, after = self.weights[-2:]
            param_groups = {id(p): name for name, parameters in pl_module.param_groups().items() for p in parameters}
            named = pl_module.named_parameters()
            self.moved.append(
                {param_groups[id(p)] for name, p in named if id(p) in param_groups and not torch.equal(before[name], after[name])}
            )
            state = trainer.optimizers[0].state
            self.steps.append({name: float(state[p]["step"]) for name, p in pl_module.named_parameters() if p in state})

    def _keep(self, model: Autoencoder) -> None:
        self.weights.append({name: p.detach().cpu().clone() for name, p in model.named_parameters()})


class Data(pl.LightningDataModule):
    """One batch for each step."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Batches:
        return Batches(self.batches)

    def some_images(self, split: str, count: int) -> Batch:
        return self.batches[0]

    def read(self, split: str) -> list[Batch]:
        return self.batches


def train(model: Autoencoder, steps: int, pieces: int = 1, lr: float = 1e-3, **trainer: Any) -> Record:
    """Trains under the real Trainer, 8 images a step in so many pieces."""
    model.training_config = TrainingConfig(8, 8 * steps, lambda groups: torch.optim.Adam(groups, lr=lr, betas=(0.5, 0.999)))
    record = Record()
    batches = [batch_for(model, 8 // pieces, seed=number) for number in range(steps * pieces)]
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False} | trainer
    own = options.pop("callbacks", [])
    fit = pl.Trainer(
        max_steps=steps, callbacks=[*own, record], accumulate_grad_batches=pieces, enable_model_summary=False, devices=1,
        limit_val_batches=0, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    fit.fit(model, Data(batches))
    return record


def short_run(root: Path) -> list[str]:
    """Makes a hundred digits, 9 of the 90 to train on threes; overrides for a run of 6 steps on them."""
    make_mnist(root, train=100)
    return [
        "data=mnist", f"data.root={root}", "logger=none", "model.latent_dim=8", "model.backbone.width=16",
        "batch_size=8", "max_images=48", "val_every_images=48", "checkpoint_every_images=48", "log_every_images=8", "scheduler=constant",
    ]  # fmt: skip


def weights(run: Path) -> dict[str, Tensor]:
    """What its last checkpoint holds, but for a fitted prior, in which rounding errors grow."""
    state = torch.load(all_of(run)[0], weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if not name.startswith("prior.")}


def same_metrics(one: Path, other: Path, game: str) -> int:
    """Checks that two runs have logged the same losses and gradients and let the same parameter groups rest; how often one did.

    Adam hides the scale of a gradient from the weights: only its norm tells a factor.
    """
    frozen = 0
    with open(one / "metrics.csv") as first, open(other / "metrics.csv") as second:
        for row, twin in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            assert abs(float(row["train/loss"]) - float(twin["train/loss"])) < 1e-4 * max(1.0, abs(float(row["train/loss"])))
            for group_name in GROUPS[game]:
                name = f"train/gradient_norm/{group_name}"  # a frozen group has none
                assert bool(row[name]) == bool(twin[name])
                assert not row[name] or math.isclose(float(row[name]), float(twin[name]), rel_tol=1e-3), (name, row[name], twin[name])
                frozen += not row[name]
    return frozen
