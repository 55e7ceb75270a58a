"""How close reconstructions come to their originals, per image and as a set."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.batch import to_unit_range
from zoo.evaluation.context import EvalContext, quantised
from zoo.evaluation.samples import quantised_energy, sharpness
from zoo.metrics.frechet import frechet_distance, moments
from zoo.metrics.lpips import SMALLEST, WEIGHTS, lpips_network
from zoo.metrics.reconstruction import psnr, squared_error

NAMES = ("mse", "psnr", "ssim", "lpips", "sharpness", "frechet")


def reconstructions(context: EvalContext) -> dict[str, float]:
    """Means over the split's images of mse (per value on [0, 1]), psnr (dB), ssim, lpips; of the whole set its sharpness (1 = as sharp as
    the data) and its Fréchet distance."""
    model, features = context.model, context.features if context.wants("frechet") else None
    if not model.can_encode:
        return {}
    perceptual = None
    if context.wants("lpips") and context.store.image_size < SMALLEST:
        context.notes.append(f"lpips was not measured: it needs images of at least {SMALLEST} pixels.")
    elif context.wants("lpips") and (perceptual := lpips_network(context.device)) is None:
        context.notes.append(f"lpips was not measured: its weights, torchvision's AlexNet, are not at hand ({WEIGHTS}).")
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
    scores = {name: mean for name, mean in zip(per_image, means, strict=True) if context.wants(name)}
    if context.wants("sharpness"):
        scores["sharpness"] = sharpness(context, energy)
    if features is not None:
        real = context.reference()
        scores["frechet"] = frechet_distance(context.once("moments", lambda: moments(real)), moments(fake))
    return scores


def ssim(target: Tensor, output: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window σ = 1.5, K = 0.01, 0.03) on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    found = structural_similarity_index_measure(to_unit_range(output), to_unit_range(target), data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.view(-1)
