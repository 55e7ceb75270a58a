"""What the tests of Glow and f-VAE share."""

import torch

from zoo.batch import Batch
from zoo.models.base import Autoencoder

KEY = (3, 64)


def images(model: Autoencoder, count: int = 4) -> Batch:
    """Grey levels in [-1, 1], no attributes."""
    generator = torch.Generator().manual_seed(1)
    grey = torch.randint(0, 256, (count, *model.image_shape), generator=generator)
    return Batch(grey.to(model.dtype) / 127.5 - 1, torch.zeros(count, 0), torch.arange(count))


def losses(model: Autoencoder, batch: Batch, first_row: int = 0, global_rows: int = 0) -> dict[str, torch.Tensor]:
    """With the noise of KEY."""
    model.set_batch_rng(KEY, first_row, len(batch.image), global_rows or len(batch.image))
    return model.losses(batch)


@torch.no_grad()
def darkest(model: Autoencoder) -> float:
    """The lowest value of images from latents of ordinary size, of a fresh model."""
    return model.decode(torch.randn(64, model.latent_dim, generator=torch.Generator().manual_seed(0)).to(model.dtype)).min().item()


def learn_sixteen_images(model: Autoencoder, groups: list[dict], steps: int) -> tuple[torch.Tensor, list[float]]:
    """Trains on 16 smooth images of 8×8 over and over: the images, and bits/dim after each step."""
    smooth = torch.nn.functional.interpolate(torch.rand(16, 1, 2, 2) * 2 - 1, size=8, mode="bilinear")
    batch = Batch(smooth, torch.zeros(16, 0), torch.arange(16))
    model.initialize(batch)
    optimizer = torch.optim.Adam(groups)
    bits = []
    for step in range(steps):
        model.set_batch_rng((0, step), 0, 16, 16)
        optimizer.zero_grad()
        found = model.losses(batch)
        found["loss"].backward()
        optimizer.step()
        bits.append(found["bits_per_dim"].item())
    return smooth, bits
