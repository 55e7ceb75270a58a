"""How close reconstructions come to their originals, per image and as a set."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.batch import to_unit_range
from zoo.evaluation.context import EvalContext, quantised
from zoo.evaluation.samples import laplacian_energy_ratio, quantised_energy
from zoo.metrics.images import psnr, squared_error
from zoo.metrics.lpips import SMALLEST, WEIGHTS, lpips_network
from zoo.runs.measurements import Measurement


def reconstructions(context: EvalContext) -> list[Measurement]:
    """Means over the split's images of mse (per value on [0, 1]), psnr (dB), ssim, lpips; of the whole set the ratio of its Laplacian
    energy to that of the data (1 = as sharp) and its Fréchet distance."""
    model, features = context.model, context.features if context.wants("frechet") else None
    if not model.can_encode:
        return []
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
    scores = dict(zip(per_image, means, strict=True))
    if context.wants("laplacian_energy_ratio"):
        scores["laplacian_energy_ratio"] = laplacian_energy_ratio(context, energy)
    if features is not None:
        scores["frechet"] = context.frechet(fake)
    return context.records("reconstructions", scores)


def ssim(target: Tensor, output: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window σ = 1.5, K = 0.01, 0.03) on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    found = structural_similarity_index_measure(to_unit_range(output), to_unit_range(target), data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.view(-1)
