"""What a step of one loss and one backward pass costs, against the ordinary way to train an adversarial method.

The ordinary way: each parameter group in turn computes its own objective from the images on, with the gradients of its own parameters only
and without a graph for what it merely consumes, then steps with its own optimizer. The objectives are written out here once more, for the
models' default settings and for batches of two domains; the tests hold their gradients against those of the one loss. All parameter groups
of a step share its noise, and UDT's attribute encoder sees rich images only, so the ordinary way does no work for nothing.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from zoo.batch import Batch
from zoo.benchmarks.measure import BenchmarkResult, ratio, take_turns
from zoo.benchmarks.steps import device_of, random_batch, ready, step, train_settings
from zoo.losses import at_least_float32, kl_to_standard_normal, mean_squared_error
from zoo.models.acai import ACAI, opinion
from zoo.models.base import Autoencoder
from zoo.models.gan import GAN
from zoo.models.udt import UDT
from zoo.models.vae import reparameterised
from zoo.models.vaegan import VAEGAN

GOAL_RATIO = 1.1  # of the zoo's step to the ordinary one
BATCH_SIZE = 32  # as zoo.train
WARM_UP = 2  # turns that do not count

Objective = Callable[[Any, Batch, Tensor], Tensor]  # model, batch, noise of the step -> scalar


class Game(NamedTuple):
    """An adversarial method as its parameter groups see it."""

    noise: Callable[[Any, int], Tensor]  # model, images -> what the parameter groups of one step share
    objectives: dict[str, Objective]  # in the order in which the parameter groups step


def acai_images(model: ACAI, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstructions and mixtures (B, C, H, W) × 2, and α (B, 1)."""
    alpha = 0.5 - (noise - 0.5).abs()
    latent = model.encoder(image)  # (B, latent_dim)
    partner = latent.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    output, mixed = model.decoder(torch.cat([latent, alpha * latent + (1 - alpha) * partner])).chunk(2)
    return output, mixed, alpha


def acai_autoencoder(model: ACAI, batch: Batch, noise: Tensor) -> Tensor:
    """‖x - g(z)‖² + λ d(x̂_α)²."""
    output, mixed, _ = acai_images(model, batch.image, noise)
    return mean_squared_error(batch.image, output) + model.adv_weight * opinion(model.critic(mixed)).square().mean()


def acai_critic(model: ACAI, batch: Batch, noise: Tensor) -> Tensor:
    """(d(x̂_α) - α)² + d(γ x + (1 - γ) g(z))²."""
    with torch.no_grad():
        output, mixed, alpha = acai_images(model, batch.image, noise)
    blend = model.reg * batch.image + (1 - model.reg) * output
    of_mixed, of_blend = opinion(model.critic(torch.cat([mixed, blend]))).chunk(2)  # (B,) each
    return (of_mixed - alpha[:, 0]).square().mean() + of_blend.square().mean()


def domains(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Poor and rich rows of an interleaved batch: (B, …) -> (B/2, …) × 2."""
    return rows[0::2], rows[1::2]


def udt_autoencoder(model: UDT, batch: Batch, noise: Tensor) -> Tensor:
    """Σ_domains mean (x - x̂)² + w · Σ_domains BCE(d(c), poor) + β mean ½‖a‖²; -log (1 - sigmoid) = softplus."""
    content = model.content(batch.image)  # (B, content_dim)
    attribute = model.attribute(domains(batch.image)[1])  # (B/2, attribute_dim)
    rate = 0.5 * at_least_float32(attribute).square().sum(1).mean()
    if model.kl_weight:
        attribute = attribute + domains(noise)[1]
    attributes = torch.stack([torch.zeros_like(attribute), attribute], 1).flatten(0, 1)
    output = model.decoder(torch.cat([content, attributes], 1))
    # Both domains have as many images: the sum of their means is twice the mean.
    confusion = 2 * softplus(at_least_float32(model.discriminator(content))).mean()
    return 2 * mean_squared_error(batch.image, output) + model.adv_weight * confusion + model.kl_weight * rate


def udt_discriminator(model: UDT, batch: Batch, noise: Tensor) -> Tensor:
    """Σ_domains BCE(d(c), domain)."""
    with torch.no_grad():
        content = model.content(batch.image)
    poor, rich = domains(at_least_float32(model.discriminator(content)))
    return softplus(poor).mean() + softplus(-rich).mean()


def gan_generator(model: GAN, batch: Batch, noise: Tensor) -> Tensor:
    """-E log D(G(z)), from logits, + a · mean (x - G(μ(x)))²."""
    assert model.encoder is not None  # the default settings have an anchor
    with torch.no_grad():
        mean = model.encoder(batch.image).chunk(2, dim=1)[0]  # (B, latent_dim)
    distance = mean_squared_error(batch.image, model.generator(mean))
    return softplus(-at_least_float32(model.discriminator(model.generator(noise))[0])).mean() + model.reconstruction_weight * distance


def gan_discriminator(model: GAN, batch: Batch, noise: Tensor) -> Tensor:
    """-E log D(x) - E log (1 - D(G(z)))."""
    with torch.no_grad():
        fake = model.generator(noise)
    of_real, of_fake = at_least_float32(model.discriminator(torch.cat([batch.image, fake]))[0]).chunk(2)
    return softplus(-of_real).mean() + softplus(of_fake).mean()


def vaegan_encoder(model: VAEGAN, batch: Batch, noise: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, I)) + R(x, x̃), R as `VAEGAN.distance`."""
    with torch.no_grad():
        target = model.discriminator(batch.image)[1]  # (B, F)
    mean, log_variance = model.posterior(batch.image)
    output = model.decoder(reparameterised(mean, log_variance, noise[:, 0]))
    return kl_to_standard_normal(mean, log_variance) + model.distance(batch.image, output, target, model.discriminator(output)[1])


def vaegan_latents(model: VAEGAN, image: Tensor, noise: Tensor) -> Tensor:
    """z from q(z|x), then z_p: (2B, latent_dim)."""
    return torch.cat([reparameterised(*model.posterior(image), noise[:, 0]), noise[:, 1]])


def vaegan_decoder(model: VAEGAN, batch: Batch, noise: Tensor) -> Tensor:
    """γ · R(x, x̃) - log D(x̃) - log D(x_p)."""
    with torch.no_grad():
        target = model.discriminator(batch.image)[1]
        latents = vaegan_latents(model, batch.image, noise)
    fake = model.decoder(latents)
    logits, features = model.discriminator(fake)
    of_output, of_drawn = at_least_float32(logits).chunk(2)
    distance = model.distance(batch.image, fake.chunk(2)[0], target, features.chunk(2)[0])
    return model.gamma * distance + softplus(-of_output).mean() + softplus(-of_drawn).mean()


def vaegan_discriminator(model: VAEGAN, batch: Batch, noise: Tensor) -> Tensor:
    """-[log D(x) + log (1 - D(x̃)) + log (1 - D(x_p))]."""
    with torch.no_grad():
        fake = model.decoder(vaegan_latents(model, batch.image, noise))
    of_real, of_output, of_drawn = at_least_float32(model.discriminator(torch.cat([batch.image, fake]))[0]).chunk(3)
    return softplus(-of_real).mean() + softplus(of_output).mean() + softplus(of_drawn).mean()


GAMES = {
    "acai": Game(lambda model, count: model.uniform(count, 1), {"autoencoder": acai_autoencoder, "critic": acai_critic}),
    "udt": Game(
        lambda model, count: model.normal(count, model.attribute_dim),
        {"autoencoder": udt_autoencoder, "discriminator": udt_discriminator},
    ),
    "gan": Game(
        lambda model, count: model.normal(count, model.latent_dim),
        {"generator": gan_generator, "discriminator": gan_discriminator},
    ),
    "vaegan": Game(
        lambda model, count: model.normal(count, 2, model.latent_dim),
        {"encoder": vaegan_encoder, "decoder": vaegan_decoder, "discriminator": vaegan_discriminator},
    ),
}


def optimizers_of(model: Autoencoder) -> dict[str, torch.optim.Optimizer]:
    """One optimizer per parameter group, with the settings that the parameter group has in the one optimizer."""
    options = model.group_options
    return {name: model.optimizer_of([{"params": own, **options.get(name, {})}]) for name, own in model.param_groups().items()}


def recomputing_step(model: Autoencoder, optimizers: dict[str, torch.optim.Optimizer], game: Game, batch: Batch, mixed: bool) -> Tensor:
    """A training step in the ordinary way; returns the sum of the parameter groups' objectives."""
    noise = game.noise(model, len(batch.image))
    total = torch.zeros((), device=batch.image.device)
    for name, objective in game.objectives.items():
        optimizer = optimizers[name]
        optimizer.zero_grad()
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
            loss = objective(model, batch, noise)
        loss.backward(inputs=optimizer.param_groups[0]["params"])  # no gradient for the nets of the others
        optimizer.step()
        total += loss.detach()
    return total


def measure_games(seconds: float, print_progress: Callable[[str], None]) -> list[BenchmarkResult]:
    """Milliseconds per step of both ways, and their ratio, for each adversarial model with its default settings; about `seconds` each."""
    results = []
    for name in GAMES:
        settings = train_settings(f"model={name}", f"batch_size={BATCH_SIZE}", "trainer.devices=1")
        device, mixed = device_of(settings)
        title = f"{name} {settings.data.image_size}×{settings.data.image_size}"
        print_progress(f"games: {title}, batch {BATCH_SIZE}")
        batch = random_batch(settings.batch_size, settings.data.image_size, device)
        model, other = ready(settings, device), ready(settings, device)
        optimizer, optimizers = model.build_optimizer(), optimizers_of(other)
        takes = {
            "ours": partial(step, model, optimizer, batch, mixed),
            "ordinary": partial(recomputing_step, other, optimizers, GAMES[name], batch, mixed),
        }
        ours, ordinary = take_turns(takes, device, seconds, WARM_UP).values()
        param_groups = len(GAMES[name].objectives)
        both = f"{param_groups} losses, {param_groups} optimizers"
        results += [
            BenchmarkResult(f"{name}_one_loss_ms_per_step", f"{title}: one loss, one optimizer", statistics.median(ours), "ms/step"),
            BenchmarkResult(f"{name}_recomputing_ms_per_step", f"{title}: {both}", statistics.median(ordinary), "ms/step"),
            BenchmarkResult(
                f"{name}_step_ratio", f"{title}: one over {param_groups}", ratio(ours, ordinary), "×", GOAL_RATIO, at_least=False
            ),
        ]
    return results
