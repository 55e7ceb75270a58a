"""What `zoo.generate` draws of a run: which images, which codes, which tables of pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.batch import to_uint8
from zoo.data.loader import subset
from zoo.errors import ZooError, nearest
from zoo.evaluation.attributes import VECTOR_IMAGES
from zoo.evaluation.context import EvalContext
from zoo.evaluation.samples import FITTED, LARGEST_LATENT, fitted
from zoo.generation import grids
from zoo.generation.inputs import image_files, read_images
from zoo.generation.options import ALL, SHOWN
from zoo.metrics.edits import attribute_vectors
from zoo.models.udt import UDT
from zoo.runs.load import Run
from zoo.viz.tiling import WHITE, columns_for, in_rows

GIF_STEPS = 31
SHOWN_GUIDES = 8  # of a transfer, where count does not say


class Figure(NamedTuple):
    """What is drawn."""

    table: Tensor  # (R, K, C, H, W) uint8, as it stands in the picture
    individual_images: dict[str, Tensor]  # each image (C, H, W) that is drawn, under its name
    columns: Sequence[str] = ()  # K headings
    rows: Sequence[str] = ()  # R names
    frames: Tensor | None = None  # (T, N, C, H, W) uint8, of an animation


@dataclass
class FigureRequest:
    """What is asked for: one of DRAWINGS, and its options. `exact`: exactly options["count"] rows of test images, not fewer."""

    run: Run
    mode: str
    options: dict[str, Any]
    exact: bool
    seed: int
    data_root: str | None = None
    cache: str | None = None

    @cached_property
    def context(self) -> EvalContext:
        """The model with the data it was trained on. Raises ZooError where they are not."""
        files = ", or draw with image=FILE" if "image" in self.options and self.mode != "attribute" else ""
        files += " guide=FILE" if "guide" in self.options else ""
        return EvalContext(self.run.model, self.run.data(self.data_root, self.cache, files).store, seed=self.seed)

    def inputs(self, per_row: int = 1, chosen: np.ndarray | None = None) -> tuple[Tensor, Tensor | None]:
        """Images (N, C, H, W) in [-1, 1] on the device, and their attributes where they are known: the named files, or test images.

        `per_row` of them make a row of the picture; `chosen` are the positions in the store to take test images from.
        """
        given, rows = self.options["image"], self.options.get("count", 1)  # rows: None for all files
        if given is None:
            batch = self.context.batch(torch.from_numpy(self.test_images(per_row, rows, chosen)))
            return batch.image, batch.attributes
        files = image_files(given)
        if "count" not in self.options and len(files) != per_row:
            needed = "one image file" if per_row == 1 else f"{per_row} image files"
            raise ZooError(f"This picture is made from {needed}, but image= names {len(files)}; name exactly {per_row}.")
        files = files if rows is None else files[: per_row * rows]
        if len(files) % per_row:
            raise ZooError(f"mode={self.mode} takes pairs of image files, but image= names {len(files)}; add or drop one.")
        return self.read(files), None

    def read(self, files: list[Path]) -> Tensor:
        """Image files as the model's input: (N, C, H, W) in [-1, 1] on the device."""
        source = self.run.settings.data.source
        return read_images(files, self.run.model.image_shape, dict(source)).to(self.run.model.device)

    def test_images(self, per_row: int, rows: int, chosen: np.ndarray | None) -> np.ndarray:
        """Positions of test images: with seed 0 the ones that every picture shows, with others the next ones."""
        positions = self.context.store.indices("test") if chosen is None else chosen
        if "count" in self.options and not self.exact and len(positions) >= per_row:
            rows = self.options["count"] = min(rows, len(positions) // per_row)
        count = per_row * rows
        if count > len(positions):
            found = f"{count} test images are needed for this picture, but there are {len(positions)} to choose from"
            raise ZooError(f"{found}; lower count, or give image=FILE{' guide=FILE' if 'guide' in self.options else ''}.")
        share = self.seed % (len(positions) // count)
        return np.setdiff1d(subset(positions, (share + 1) * count), subset(positions, share * count))


def samples(request: FigureRequest) -> Figure:
    """Samples of the model's own prior, or of one that is fitted to its latents of training images, as `zoo.evaluate` fits it."""
    model, kind = request.run.model, request.options["prior"]
    if kind is not None:
        if model.latent_dim > LARGEST_LATENT:
            raise ZooError(
                f"prior={kind} cannot be fitted to {model.latent_dim:,} latent dimensions, only up to {LARGEST_LATENT:,}; leave prior out."
            )
        model.prior = fitted(request.context, FITTED[kind](model.latent_dim))
    images = grids.samples(model, request.options["count"], request.seed)
    shown = images[:SHOWN]
    return Figure(in_rows(shown, columns_for(len(shown))), named(images[:, None], [""]))


def reconstructions(request: FigureRequest) -> Figure:
    """Rows of originals, each above the row of their reconstructions."""
    pairs = grids.reconstructions(request.run.model, *request.inputs())  # (N, 2, C, H, W)
    table = grids.one_below_the_other(pairs, min(8, len(pairs)))
    return Figure(table, named(pairs, ["original", "reconstruction"]))


def interpolation(request: FigureRequest) -> Figure:
    """A row for each pair of images, the originals at both ends; and all of them as an animation."""
    model, steps = request.run.model, request.options["steps"]
    images, attributes = request.inputs(per_row=2)
    first, second = (grids.codes(model, images, attributes)[start::2] for start in (0, 1))
    table = grids.between(images, grids.interpolations(model, first, second, steps))
    names = ["first", *(f"{k:02d}" for k in range(steps)), "second"]
    return Figure(table, named(table, names), frames=grids.interpolations(model, first, second, GIF_STEPS).transpose(0, 1))


def grid(request: FigureRequest) -> Figure:
    """A square between four images: bilinear in the codes, the corners are reconstructions (f-VAE, 1809.05861)."""
    table = grids.square(request.run.model, grids.codes(request.run.model, *request.inputs(per_row=4)), request.options["steps"])
    return Figure(table, named(table, [f"{k:02d}" for k in range(table.shape[1])]))


def attribute(request: FigureRequest) -> Figure:
    """Originals, and what becomes of their reconstructions along an attribute's vector; or of one image along all vectors."""
    model, name, steps = request.run.model, str(request.options["attribute"]), request.options["steps"]
    strength = float(request.options["strength"])
    store = request.context.store
    if not store.attribute_names:
        raise ZooError(f"The data '{request.run.settings.data.name}' of this run have no attributes; draw something else with mode=.")
    if name not in (*store.attribute_names, ALL):
        raise ZooError(f"The data have no attribute '{name}'; {nearest(name, list(store.attribute_names))}")
    known = request.context.codes("train", VECTOR_IMAGES)
    vectors = attribute_vectors(known.latents, known.attributes)  # (A, latent_dim)
    if name == ALL:
        varied = vectors.isfinite().all(1)
        rows, low = [n for n, kept in zip(store.attribute_names, varied.tolist(), strict=True) if kept], -strength
        images, attributes = request.inputs()
        vectors = vectors[varied]
    else:
        column = store.attribute_names.index(name)
        rows, low, vectors = [], 0.0, vectors[column, None]
        if not vectors.isfinite().all():
            raise ZooError(f"All training images have the same value of '{name}', so it has no vector; choose another attribute.")
        test = store.indices("test")
        images, attributes = request.inputs(chosen=test[store.attributes[test, column] == (strength < 0)])
    strengths = torch.linspace(low, strength, steps)
    codes = grids.codes(model, images, attributes)
    count = max(len(codes), len(vectors))
    edits = grids.edits(model, codes.expand(count, -1), vectors.expand(count, -1), strengths)
    originals = to_uint8(images).cpu().expand(count, -1, -1, -1)
    columns = ["original", *(f"{t:+.3g}" if t else "0" for t in strengths.tolist())]
    table = torch.cat([originals[:, None], edits], 1)
    return Figure(table, named(table, columns), columns, rows)


def transfer(request: FigureRequest) -> Figure:
    """What UDT makes of targets and guides, as its paper shows it: rows = guides, columns = targets, or one of the other ways."""
    model, options, way = request.run.model, request.options, request.options["way"]
    if not isinstance(model, UDT):
        raise ZooError(f"mode=transfer draws what a run of model=udt makes, but this run's model is {type(model).__name__}; name another.")
    targets, *others = transferred(request, model)
    contents = grids.codes(model, targets)[:, : model.content_dim]
    originals, plain = to_uint8(targets).cpu(), pad(contents, (0, model.attribute_dim))  # without the attribute
    if way == "remove":
        pairs = torch.stack([originals, grids.decoded(model, plain[:, None], "removals")[:, 0]], 1)
        return Figure(grids.one_below_the_other(pairs, min(8, len(pairs))), named(pairs, ["original", "removed"]))
    guides, attributes = to_uint8(others[0]).cpu(), grids.codes(model, others[0])[:, model.content_dim :]
    if way == "strength":
        strengths = torch.linspace(0, float(options["strength"]), options["steps"])
        edits = grids.edits(model, plain, pad(attributes, (model.content_dim, 0)), strengths)
        columns = ["target", "guide", *(f"{t:.3g}" for t in strengths.tolist())]
        table = torch.cat([originals[:, None], guides[:, None], edits], 1)
        return Figure(table, named(table, columns), columns)
    if way == "interpolation":
        weight = torch.linspace(0, 1, options["steps"], device=contents.device)[:, None]
        contents, attributes = (torch.lerp(codes[0], codes[1], weight) for codes in (contents, attributes))
        originals, guides = (at_both_ends(images, options["steps"]) for images in (originals, guides))
    cells = grids.crossed(model, contents, attributes)  # (R, K, C, H, W)
    individual_images = named(cells, [f"{k:02d}" for k in range(cells.shape[1])])
    return Figure(grids.framed(cells, originals, guides), individual_images)


def transferred(request: FigureRequest, model: UDT) -> list[Tensor]:
    """Targets and, where the picture needs them, guides, (N, C, H, W) in [-1, 1] each: named files, or test images of their domain."""
    options, way = request.options, request.options["way"]
    pools = {name: of_domain(request, model, name) for name in ("image", "guide") if name in options and options[name] is None}
    count = 2
    if "count" in options:
        count = options["count"] or SHOWN_GUIDES
        if not request.exact:
            count = max(1, min([count, *map(len, pools.values())]))
    images: list[Tensor] = []
    for name in (name for name in ("image", "guide") if name in options):
        if name in pools:
            number = len(images[0]) if way == "strength" and images else count
            images.append(request.context.batch(torch.from_numpy(request.test_images(1, number, pools[name]))).image)
            continue
        files = image_files(options[name])
        files = files[:count] if request.exact else files
        if way == "interpolation" and len(files) != 2:
            raise ZooError(f"way=interpolation is drawn between 2 targets and between 2 guides, but {name}= names {len(files)}; name 2.")
        images.append(request.read(files))
    if way == "strength" and len(images[1]) == 1:
        images[1] = images[1].expand_as(images[0])
    if way == "strength" and len(images[1]) != len(images[0]):
        raise ZooError(f"There are {len(images[1])} guides for {len(images[0])} targets; name one with guide=FILE, or as many as targets.")
    return images


def of_domain(request: FigureRequest, model: UDT, name: str) -> np.ndarray:
    """Positions of the test images that can stand where `image` or `guide` names none: of poor or of rich ones."""
    store, way = request.context.store, request.options["way"]
    test = store.indices("test")
    has = store.attributes[test, int(model.column)] == 1
    if name == "image" and way not in ("remove", "swap"):
        return test[~has]
    return test[has][int(name == "guide") :: 2] if way == "swap" else test[has]  # nobody is their own guide


def at_both_ends(images: Tensor, steps: int) -> Tensor:
    """Two images (2, C, H, W) uint8 with white between them: (steps, C, H, W)."""
    between = torch.full_like(images[:1], WHITE).expand(steps - 2, -1, -1, -1)
    return torch.cat([images[:1], between, images[1:]])


FIGURES: dict[str, Callable[[FigureRequest], Figure]] = {
    draw.__name__: draw for draw in (samples, reconstructions, interpolation, grid, attribute, transfer)
}


def named(table: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Every image of a table (R, K, C, H, W) under its row and the name of its column."""
    return {f"{row:05d}-{name}".rstrip("-"): image for row, images in enumerate(table) for name, image in zip(names, images, strict=True)}
