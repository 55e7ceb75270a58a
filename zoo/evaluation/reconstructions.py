"""How close reconstructions come to their originals, per image and as a set."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.batch import to_unit_range
from zoo.evaluation.context import Subject, quantised
from zoo.evaluation.samples import quantised_energy, sharpness
from zoo.metrics.frechet import frechet_distance, moments
from zoo.metrics.lpips import SMALLEST, WEIGHTS, lpips_network
from zoo.metrics.reconstruction import psnr, squared_error

NAMES = ("mse", "psnr", "ssim", "lpips", "sharpness", "frechet")


def reconstructions(subject: Subject) -> dict[str, float]:
    """Means over the split's images of mse (per value on [0, 1]), psnr (dB), ssim, lpips; of the whole set its sharpness (1 = as sharp as
    the data) and its Fréchet distance."""
    model, features = subject.model, subject.features if subject.wants("frechet") else None
    if not model.can_encode:
        return {}
    perceptual = None
    if subject.wants("lpips") and subject.store.image_size < SMALLEST:
        subject.notes.append(f"lpips was not measured: it needs images of at least {SMALLEST} pixels.")
    elif subject.wants("lpips") and (perceptual := lpips_network(subject.device)) is None:
        subject.notes.append(f"lpips was not measured: its weights, torchvision's AlexNet, are not at hand ({WEIGHTS}).")
    positions = subject.positions(subject.split, subject.count)
    per_image = ["mse", "psnr", "ssim"] + ["lpips"] * (perceptual is not None)

    def measure(start: int, stop: int) -> Tensor:
        batch = subject.batch(positions[start:stop])
        output = model.reconstruct(batch.image, batch.attributes)
        error = squared_error(batch.image, output)
        columns = [error, psnr(error), ssim(batch.image, output)]
        if perceptual is not None:
            columns.append(perceptual(batch.image, output))
        images = quantised(output)
        rows = torch.stack([*columns, quantised_energy(images)], 1).float()  # (B, 4 or 5)
        return rows if features is None else torch.cat([rows, features(images)], 1)

    rows = subject.rows(len(positions), f"reconstructions of {subject.split} images", measure)
    means = rows[:, : len(per_image)].double().mean(0).tolist()
    energy, fake = rows[:, len(per_image)], rows[:, len(per_image) + 1 :]
    scores = {name: mean for name, mean in zip(per_image, means, strict=True) if subject.wants(name)}
    if subject.wants("sharpness"):
        scores["sharpness"] = sharpness(subject, energy)
    if features is not None:
        real = subject.reference()
        scores["frechet"] = frechet_distance(subject.once("moments", lambda: moments(real)), moments(fake))
    return scores


def ssim(target: Tensor, output: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window σ = 1.5, K = 0.01, 0.03) on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    found = structural_similarity_index_measure(to_unit_range(output), to_unit_range(target), data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.view(-1)
