"""What a model makes, as tables of images: samples, reconstructions, interpolations, edits. Functions of a model and of tensors.

A table is (R, K, C, H, W) uint8 on the CPU: R rows of K images. Callers hold `torch.no_grad()`; slow models show their progress.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from zoo.batch import Batch, to_uint8
from zoo.evaluation.context import EvalContext
from zoo.metrics.edits import attribute_vectors
from zoo.models.base import Autoencoder
from zoo.models.udt import UDT
from zoo.priors import Prior
from zoo.progress import chunks
from zoo.viz.tiling import WHITE, enlarged, grid_of, in_rows, labelled, save, tile

CHUNK = 128  # images at once
FEW, MANY = 16, 500  # images that most pictures show, and among which a picture finds those it needs
EDITED = ("Eyeglasses", "Smiling", "Blond_Hair", "Wearing_Hat", "Bald", "Male")  # attributes that are shown rather than others
EDIT_STRENGTHS = (0.0, 0.5, 1.0, 1.5)  # of the vector from images without the attribute to those with it
EDIT_LEAST = 10  # images with and without an attribute


def samples(model: Autoencoder, count: int, seed: int = 0) -> Tensor:
    """Images from the model's prior: (count, C, H, W)."""
    generator = Generator().manual_seed(seed)
    return _rows(count, "samples", 1, lambda start, stop: model.sample(stop - start, generator))


def reconstructions(model: Autoencoder, images: Tensor, attributes: Tensor | None = None) -> Tensor:
    """Originals and reconstructions: (N, C, H, W) in [-1, 1], (N, A) -> (N, 2, C, H, W)."""

    def work(start: int, stop: int) -> Tensor:
        originals = images[start:stop]
        return torch.stack([originals, model.reconstruct(originals, _part(attributes, start, stop)).to(originals)], 1)

    return _rows(len(images), "reconstructions", 1, work)


def codes(model: Autoencoder, images: Tensor, attributes: Tensor | None = None) -> Tensor:
    """The code of each image, on the device: (N, C, H, W) in [-1, 1], (N, A) -> (N, latent_dim)."""
    pieces = chunks(len(images), CHUNK, "codes")
    return torch.cat([model.encode(images[start:stop], _part(attributes, start, stop)) for start, stop in pieces])


def interpolations(model: Autoencoder, first: Tensor, second: Tensor, steps: int) -> Tensor:
    """The way from each first code to its second, both ends included: (R, latent_dim) × 2 -> (R, steps, C, H, W)."""
    return _rows(len(first), "interpolations", steps, lambda start, stop: model.interpolate(first[start:stop], second[start:stop], steps))


def between(originals: Tensor, line: Tensor) -> Tensor:
    """Puts originals to both ends of interpolations: (2·R, C, H, W) in [-1, 1] in pairs, (R, K, C, H, W) uint8 -> (R, K + 2, C, H, W)."""
    ends = to_uint8(originals).cpu()
    return torch.cat([ends[0::2, None], line, ends[1::2, None]], 1)


def square(model: Autoencoder, corners: Tensor, steps: int) -> Tensor:
    """Bilinear between four codes, upper left, upper right, lower left, lower right: (4, latent_dim) -> (steps, steps, C, H, W)."""
    weight = torch.linspace(0, 1, steps, device=corners.device, dtype=corners.dtype)[:, None]
    left, right = torch.lerp(corners[0], corners[2], weight), torch.lerp(corners[1], corners[3], weight)  # (steps, latent_dim)
    return interpolations(model, left, right, steps)


def edits(model: Autoencoder, latents: Tensor, vectors: Tensor, strengths: Tensor) -> Tensor:
    """Decodes z + t·v for each strength t: (R, latent_dim), (R, latent_dim), (K,) -> (R, K, C, H, W)."""
    return decoded(model, latents[:, None] + strengths.to(latents)[:, None] * vectors[:, None], "edits")


def crossed(model: Autoencoder, contents: Tensor, attributes: Tensor) -> Tensor:
    """The content of each column with the attribute code of each row (UDT): (K, content_dim), (R, attribute_dim) -> (R, K, C, H, W)."""
    rows, columns = len(attributes), len(contents)
    both = [contents.expand(rows, -1, -1), attributes[:, None].expand(-1, columns, -1)]
    return decoded(model, torch.cat(both, 2), "transfers")


def decoded(model: Autoencoder, latents: Tensor, task: str) -> Tensor:
    """A table of codes as images: (R, K, latent_dim) -> (R, K, C, H, W)."""

    def work(start: int, stop: int) -> Tensor:
        return model.decode(latents[start:stop].flatten(0, 1)).unflatten(0, (-1, latents.shape[1]))

    return _rows(len(latents), task, latents.shape[1], work)


def framed(table: Tensor, above: Tensor, beside: Tensor) -> Tensor:
    """Puts a row of images above a table and a column beside it, the corner white: (R, K, C, H, W), (K, …), (R, …) -> (R + 1, K + 1, …)."""
    corner = torch.full_like(above[:1], WHITE)
    return torch.cat([torch.cat([corner, beside])[:, None], torch.cat([above[None], table])], 1)


def one_below_the_other(pairs: Tensor, columns: int) -> Tensor:
    """A row of the first ones of `columns` pairs, then a row of their second ones, and so on: (N, 2, C, H, W) -> (R, columns, C, H, W)."""
    return in_rows(pairs, columns).transpose(1, 2).flatten(0, 1)


def image_grids(model: Autoencoder, few: Batch, many: Batch, seed: int = 0, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """The pictures that are drawn of every model, in eval mode, (3, H', W') uint8 each.

    64 samples; what it makes of FEW images, or of fewer where the data set has fewer; and what is found among MANY: edits of their
    attributes called `names`, and what single methods show.
    """
    shown = {"samples": tile(enlarged(samples(model, 64, seed)), columns=8)}
    if model.can_encode and len(few.image) > 1:
        columns = min(8, len(few.image) // 2 * 2)
        images, attributes = (part[: len(part) // columns * columns] for part in few[:2])
        table = one_below_the_other(reconstructions(model, images, attributes), columns)
        shown["reconstructions"] = tile(enlarged(table.flatten(0, 1)), columns)
        latents = codes(model, images, attributes)
        table = between(images, interpolations(model, latents[0::2], latents[1::2], 8))
        shown["interpolations"] = tile(enlarged(table.flatten(0, 1)), columns=10)
    if model.can_encode and (grid := attribute_edits(model, many.image, many.attributes, names)) is not None:
        shown["edits"] = grid
    if isinstance(model, UDT) and (grid := transfer(model, many.image, many.attributes)) is not None:
        shown["transfer"] = grid
    return shown


def draw_evaluation(folder: Path, context: EvalContext, priors: dict[str, Prior]) -> None:
    """Writes the pictures of an evaluation: `image_grids` of the same images each time, with a picture of samples from each prior."""
    few, many = (context.batch(context.positions(context.split, count)) for count in (FEW, MANY))
    for what, grid in image_grids(context.model, few, many, context.seed, context.store.attribute_names).items():
        if what != "samples":
            save(grid, folder / f"{what}.png")
    for name, prior in priors.items():
        latents = prior.sample(64, Generator().manual_seed(context.seed))
        save(grid_of(context.model.decode(latents), columns=8), folder / f"samples-{name}.png")


def attribute_edits(model: Autoencoder, images: Tensor, attributes: Tensor, names: Sequence[str]) -> Tensor | None:
    """A picture of codes moved along attribute vectors: for up to 4 attributes two images without it, their reconstructions and edits.

    (N, C, H, W) in [-1, 1], (N, A) -> (3, H', W') uint8; None where no attribute has both kinds of images, and for classes.
    """
    has = attributes > 0.5  # (N, A)
    varied = [name for k, name in enumerate(names) if min(has[:, k].sum(), (~has[:, k]).sum()) >= EDIT_LEAST]
    if not varied or bool((has.sum(1) == 1).all()):  # one-hot: classes
        return None
    latents = codes(model, images, attributes)
    vectors = attribute_vectors(latents, has)
    shown = sorted(varied, key=lambda name: EDITED.index(name) if name in EDITED else len(EDITED))[:4]
    rows, taken = [], torch.zeros_like(has[:, 0])
    for name in shown:
        column = list(names).index(name)
        chosen = (~has[:, column] & ~taken).nonzero()[:2, 0]
        taken[chosen] = True  # as many different images as there are
        moved = edits(model, latents[chosen], vectors[column].expand(len(chosen), -1), torch.tensor(EDIT_STRENGTHS))
        rows.append(torch.cat([to_uint8(images[chosen]).cpu()[:, None], moved], 1).flatten(0, 1))
    width = max(map(len, rows))
    table = torch.cat([in_rows(row, width) for row in rows])  # (R, K, C, H, W)
    return labelled(tile(enlarged(table.flatten(0, 1)), width), rows=shown)


def transfer(model: UDT, images: Tensor, attributes: Tensor) -> Tensor | None:
    """The picture of UDT: the first rich images (rows) lend their attribute to the first poor ones (columns), up to 8 of each.

    (N, C, H, W) in [-1, 1], (N, A) -> (3, H', W') uint8; None if the images are all of one domain.
    """
    rich = model.rich(attributes) > 0.5
    guides, targets = images[rich][:8], images[~rich][:8]
    if min(len(guides), len(targets)) == 0:
        return None
    table = transfers(model, targets, guides)
    return tile(enlarged(table.flatten(0, 1)), table.shape[1])


def transfers(model: UDT, targets: Tensor, guides: Tensor) -> Tensor:
    """Each target with the attribute of each guide: rows = guides, columns = targets, both shown, as in the paper (2001.05017).

    (K, C, H, W), (R, C, H, W) in [-1, 1] -> (R + 1, K + 1, C, H, W).
    """
    contents, attributes = codes(model, targets)[:, : model.content_dim], codes(model, guides)[:, model.content_dim :]
    return framed(crossed(model, contents, attributes), to_uint8(targets).cpu(), to_uint8(guides).cpu())


def _part(attributes: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if attributes is None else attributes[start:stop]


def _rows(total: int, task: str, per_row: int, work: Callable[[int, int], Tensor]) -> Tensor:
    """`work(start, stop)` for consecutive rows, as uint8 on the CPU, with about CHUNK images at once."""
    return torch.cat([to_uint8(work(start, stop)).cpu() for start, stop in chunks(total, max(1, CHUNK // per_row), task)])
