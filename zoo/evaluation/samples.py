"""How close generated images come to real ones: one row of numbers for every prior that the model's latents can be drawn from."""

import copy

from torch import Generator, Tensor

from zoo.evaluation.subject import Subject, quantised
from zoo.metrics.frechet import frechet_distance, moments
from zoo.metrics.kernel import kernel_distance
from zoo.metrics.manifold import manifold_scores
from zoo.models.base import seed_of
from zoo.priors import Gaussian, Mixture, Prior
from zoo.progress import busy

NAMES = ("frechet", "kernel", "precision", "recall", "density", "coverage", "latent_nll")
PRIOR_IMAGES = 10_000  # training images whose latents a prior is fitted to
LARGEST_LATENT = 1024  # dimensions up to which densities are fitted to latents
FIT, HELD_OUT, DRAW = 10, 11, 12  # keys of random streams


def samples(subject: Subject) -> dict[str, float]:
    """For each prior: distances and precision, recall, density, coverage of N samples against N real images, in feature space.

    `latent_nll` is the prior's negative log-likelihood, in nats, of latents of the measured split: fitted priors can overfit.
    """
    scores: dict[str, float] = {}
    with_features = subject.features is not None and subject.wants(*NAMES[:-1])
    for name, prior in priors(subject).items():
        if with_features:
            real, fake = subject.reference(), generated_features(subject, prior)
            with busy(f"comparing {len(fake):,} samples from the {name} prior with as many real images"):
                found = compare(subject, real, fake)
            scores |= {f"{name}/{metric}": value for metric, value in found.items()}
        if subject.model.can_encode and subject.wants("latent_nll"):
            scores[f"{name}/latent_nll"] = -prior.log_prob(latents(subject, subject.split, subject.count, HELD_OUT)).double().mean().item()
    return scores


def priors(subject: Subject) -> dict[str, Prior]:
    """The model's own prior, and a Gaussian and a mixture fitted to its latents of training images where these are small enough."""
    return subject.once("priors", lambda: _priors(subject))


def _priors(subject: Subject) -> dict[str, Prior]:
    model = subject.model
    found = {} if model.prior.needs_fit and model.can_encode else {model.prior.name: model.prior}
    to_fit = [copy.deepcopy(model.prior)] if not found else []  # the one in the checkpoint may be older than the weights
    if model.can_encode and model.latent_dim <= LARGEST_LATENT:
        to_fit += [Gaussian(model.latent_dim), Mixture(model.latent_dim)]
    for prior in to_fit:
        if prior.name not in found:
            with busy(f"fitting the {prior.name} prior"):
                prior.fit(latents(subject, "train", PRIOR_IMAGES, FIT), subject.seed)
            found[prior.name] = prior.to(subject.device)
    return found


def latents(subject: Subject, split: str, count: int, stream: int) -> Tensor:
    """What a prior should follow (`Autoencoder.latents_for_prior`), of at most `count` images: (N, latent_dim)."""
    positions = subject.positions(split, count)

    def encode(start: int, stop: int) -> Tensor:
        subject.model.place((subject.seed, stream, start), 0, stop - start, stop - start)
        return subject.model.latents_for_prior(subject.batch(positions[start:stop]).image).float()

    return subject.once(f"latents {stream}", lambda: subject.rows(len(positions), f"latents of {split} images", encode))


def generated_features(subject: Subject, prior: Prior) -> Tensor:
    """Features of N samples (N, D); the latents of a chunk depend on the seed and its place only."""
    assert subject.features is not None
    features = subject.features

    def draw(start: int, stop: int) -> Tensor:
        generator = Generator().manual_seed(seed_of(subject.seed, DRAW, start))
        return features(quantised(subject.model.decode(prior.sample(stop - start, generator))))

    return subject.rows(subject.count, f"samples from the {prior.name} prior", draw)


def compare(subject: Subject, real: Tensor, fake: Tensor) -> dict[str, float]:
    """The wanted metrics of two sets of features (N, D) of equal size."""
    scores: dict[str, float] = {}
    if subject.wants("frechet"):
        scores["frechet"] = frechet_distance(subject.once("moments", lambda: moments(real)), moments(fake))
    if subject.wants("kernel"):
        scores["kernel"] = kernel_distance(real, fake)
    if subject.wants("precision", "recall", "density", "coverage"):
        found = manifold_scores(real, fake)._asdict()
        scores |= {name: value for name, value in found.items() if subject.wants(name)}
    return scores
