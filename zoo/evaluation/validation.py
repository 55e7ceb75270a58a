"""Measures a model on a split: what `zoo.train` reports. Runs on all ranks, each image once."""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from zoo.batch import to_float
from zoo.data.loader import BatchLoader
from zoo.metrics.reconstruction import psnr, squared_error
from zoo.models.base import Autoencoder

VALIDATION, PRIOR = -1, -2  # keys of random streams that training does not use


def measure(model: Autoencoder, loader: BatchLoader) -> dict[str, float]:
    """Means over the loader's images: every loss term, and `mse` (per value on [0, 1]) and `psnr` (dB) where the model can encode."""
    sums: dict[str, Tensor] = {}
    images = torch.zeros((), dtype=torch.float64, device=model.device)
    for uint8_batch in loader:
        batch = to_float(uint8_batch)
        count = len(batch.image)
        global_batch, first_row = divmod(int(np.searchsorted(loader.positions, int(batch.index[0]))), loader.batch_size)
        rows = min(loader.batch_size, loader.n - global_batch * loader.batch_size)
        model.set_batch_rng((VALIDATION, global_batch), first_row, count, rows)
        values = {name: value.double() * count for name, value in model.losses(batch).items()}
        if model.can_encode:
            error = squared_error(batch.image, model.reconstruct(batch.image, batch.attributes))
            values |= {"mse": error.double().sum(), "psnr": psnr(error).double().sum()}
        for name, value in values.items():
            sums[name] = sums.get(name, torch.zeros_like(images)) + value
        images += count
    if dist.is_available() and dist.is_initialized():
        for total in (*sums.values(), images):
            dist.all_reduce(total)
    return {name: (total / images).item() for name, total in sums.items()} | {"images": images.item()}


def fit_prior(model: Autoencoder, loader: BatchLoader, seed: int = 0) -> None:
    """Fits the model's prior to the latents of the loader's images, if it is of the kind that is fitted; the same on every rank."""
    if not model.prior.needs_fit:
        return
    latents = []
    for uint8_batch in loader:
        batch = to_float(uint8_batch)
        model.set_batch_rng((PRIOR, seed, int(batch.index[0])), 0, len(batch.image), len(batch.image))
        latents.append(model.latents_for_prior(batch.image, batch.attributes))
    model.prior.fit(torch.cat(latents), seed)
    if dist.is_available() and dist.is_initialized():
        for tensor in model.prior.state_dict().values():  # of a flow: parameters, too
            dist.broadcast(tensor, 0)
