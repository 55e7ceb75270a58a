"""How close the images that a model makes come to real ones: samples, one row of numbers for every prior that latents can be drawn from,
and reconstructions, per image and as a set.
"""

import copy

import torch
from torch import Generator, Tensor

from zoo.errors import ZooError
from zoo.evaluation.context import CHUNK, EvalContext, quantised
from zoo.evaluation.descriptors import METRICS
from zoo.metrics.feature_sets import kernel_distance, manifold_scores
from zoo.metrics.images import LPIPS_SMALLEST, LPIPS_WEIGHTS, laplacian_energy, lpips_network, psnr, squared_error, ssim
from zoo.models.training_config import seed_of
from zoo.priors import Flow, Gaussian, Mixture, Prior
from zoo.progress import busy
from zoo.runs.measurements import Measurement

MANIFOLD = ("precision", "recall", "density", "coverage")
IN_FEATURE_SPACE = tuple(name for name, metric in METRICS["samples"].items() if metric.uses_features)
PRIOR_IMAGES = 10_000  # training images whose latents a prior is fitted to
FITTED: dict[str, type[Prior]] = {"gaussian": Gaussian, "mixture": Mixture, "flow": Flow}
LARGEST_LATENT = 1024  # dimensions up to which densities are fitted to latents
FIT, HELD_OUT, DRAW = 10, 11, 12  # keys of random streams


def samples(context: EvalContext) -> list[Measurement]:
    """For each prior: distances and precision, recall, density, coverage of N samples against N real images, in feature space.

    `laplacian_energy_ratio` compares the images themselves (1 = as sharp as the data). `latent_nll` is the prior's negative
    log-likelihood, in nats, of latents of the measured split: fitted priors can overfit.
    """
    found: list[Measurement] = []
    with_features = context.features is not None and context.wants(*IN_FEATURE_SPACE)
    (other,) = {"kid", "kernel_distance"} - {kernel_name(context)}
    if with_features and context.wanted is not None and other in context.wanted:
        context.notes.append(f"{other} is not measured: the kernel distance is called kid with features=inception alone.")
    for name, prior in priors(context).items():
        scores: dict[str, float] = {}
        if with_features or context.wants("laplacian_energy_ratio"):
            energy, fake = generated(context, prior, with_features)
        if context.wants("laplacian_energy_ratio"):
            scores["laplacian_energy_ratio"] = laplacian_energy_ratio(context, energy)
        if with_features:
            real = context.reference()
            with busy(f"comparing {len(fake):,} samples from the {name} prior with as many real images"):
                scores |= compare(context, real, fake)
        if context.model.can_encode and context.wants("latent_nll"):
            held_out = latents(context, context.split, context.count, HELD_OUT).split(CHUNK)
            scores["latent_nll"] = -torch.cat([prior.log_prob(part) for part in held_out]).double().mean().item()
        found += context.records("samples", scores, prior=name)
    return found


def reconstructions(context: EvalContext) -> list[Measurement]:
    """Means over the split's images of mse (per value on [0, 1]), psnr (dB), ssim, lpips; of the whole set the ratio of its Laplacian
    energy to that of the data (1 = as sharp) and its Fréchet distance."""
    model, features = context.model, context.features if context.wants("frechet") else None
    if not model.can_encode:
        return []
    perceptual = None
    if context.wants("lpips") and context.store.image_size < LPIPS_SMALLEST:
        context.notes.append(f"lpips was not measured: it needs images of at least {LPIPS_SMALLEST} pixels.")
    elif context.wants("lpips") and (perceptual := lpips_network(context.device)) is None:
        context.notes.append(f"lpips was not measured: its weights, torchvision's AlexNet, are not at hand ({LPIPS_WEIGHTS}).")
    positions = context.positions(context.split, context.count)
    per_image = ["mse", "psnr", "ssim"] + ["lpips"] * (perceptual is not None)

    def measure(start: int, stop: int) -> Tensor:
        batch = context.batch(positions[start:stop])
        output = model.reconstruct(batch.image, batch.attributes)
        error = squared_error(batch.image, output)
        columns = [error, psnr(error), ssim(batch.image, output)]
        if perceptual is not None:
            columns.append(perceptual(batch.image, output))
        images = quantised(output)
        rows = torch.stack([*columns, quantised_energy(images)], 1).float()  # (B, 4 or 5)
        return rows if features is None else torch.cat([rows, features(images)], 1)

    rows = context.rows(len(positions), f"reconstructions of {context.split} images", measure)
    means = rows[:, : len(per_image)].double().mean(0).tolist()
    energy, fake = rows[:, len(per_image)], rows[:, len(per_image) + 1 :]
    scores = dict(zip(per_image, means, strict=True))
    if context.wants("laplacian_energy_ratio"):
        scores["laplacian_energy_ratio"] = laplacian_energy_ratio(context, energy)
    if features is not None:
        scores["frechet"] = context.frechet(fake)
    return context.records("reconstructions", scores)


def priors(context: EvalContext) -> dict[str, Prior]:
    """The model's own prior, and those of `context.priors`, fitted to its latents of training images where these are small enough."""

    def compute() -> dict[str, Prior]:
        model = context.model
        own = model.prior
        if own.needs_fit and model.can_encode:
            own = fitted(context, copy.deepcopy(own))  # the one in the checkpoint may be older than the weights
        found = {own.name: own}
        names = context.priors if model.can_encode and model.latent_dim <= LARGEST_LATENT else ()
        for name in (name for name in names if name != own.name):
            try:
                found[name] = fitted(context, FITTED[name](model.latent_dim))
            except ZooError as error:
                if name != "flow":
                    raise
                context.notes.append(f"There is no flow prior here: {error}")  # a single or a constant dimension
        return found

    return context.once("priors", compute)


def fitted(context: EvalContext, prior: Prior) -> Prior:
    """A prior, fitted to the model's latents of training images."""
    with busy(f"fitting the {prior.name} prior"):
        prior.fit(latents(context, "train", PRIOR_IMAGES, FIT), context.seed)
    return prior.to(context.device)


def latents(context: EvalContext, split: str, count: int, stream: int) -> Tensor:
    """What a prior should follow (`Autoencoder.latents_for_prior`), of at most `count` images: (N, latent_dim)."""
    positions = context.positions(split, count)

    def encode(start: int, stop: int) -> Tensor:
        context.model.set_batch_rng((context.seed, stream, start), 0, stop - start, stop - start)
        batch = context.batch(positions[start:stop])
        return context.model.latents_for_prior(batch.image, batch.attributes).float()

    return context.once(f"latents {stream}", lambda: context.rows(len(positions), f"latents of {split} images", encode))


def generated(context: EvalContext, prior: Prior, with_features: bool) -> tuple[Tensor, Tensor]:
    """Laplacian energies (N,) and, if asked for, features (N, D) of N samples; a chunk's latents depend on the seed and its place only."""
    features = context.features if with_features else None

    def draw(start: int, stop: int) -> Tensor:
        generator = Generator().manual_seed(seed_of(context.seed, DRAW, start))
        images = quantised(context.model.decode(prior.sample(stop - start, generator)))
        energy = quantised_energy(images)[:, None]
        return energy if features is None else torch.cat([energy, features(images)], 1)

    rows = context.rows(context.count, f"samples from the {prior.name} prior", draw)
    return rows[:, 0], rows[:, 1:].contiguous()


def quantised_energy(images: Tensor) -> Tensor:
    """`laplacian_energy` of uint8 images: (B, C, H, W) -> (B,)."""
    return laplacian_energy(images.float() / 127.5 - 1)


def laplacian_energy_ratio(context: EvalContext, energy: Tensor) -> float:
    """The mean Laplacian energy of generated images (N,) in relation to that of the N real ones: 1 = as sharp as the data."""
    positions = context.positions(context.split, context.count)

    def work(start: int, stop: int) -> Tensor:
        return laplacian_energy(context.batch(positions[start:stop]).image)

    real = context.once("laplacian energy", lambda: context.rows(len(positions), f"Laplacian energy of {context.split} images", work))
    return (energy.double().mean() / real.double().mean()).item()


def kernel_name(context: EvalContext) -> str:
    """The kernel distance of Inception's features is the KID."""
    return "kid" if context.features is not None and context.features.name == "inception" else "kernel_distance"


def compare(context: EvalContext, real: Tensor, fake: Tensor) -> dict[str, float]:
    """The wanted metrics of two sets of features (N, D) of equal size."""
    kernel = kernel_name(context)
    scores: dict[str, float] = {}
    if context.wants("frechet"):
        scores["frechet"] = context.frechet(fake)
    if context.wants(kernel):
        scores[kernel] = kernel_distance(real, fake)
    if context.wants(*MANIFOLD):
        scores |= manifold_scores(real, fake)._asdict()
    return scores
