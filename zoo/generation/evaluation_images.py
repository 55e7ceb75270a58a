"""The pictures of an evaluation."""

from pathlib import Path

from torch import Generator

from zoo.evaluation.context import Subject
from zoo.generation import grids
from zoo.priors import Prior
from zoo.viz import tiling


def draw(folder: Path, subject: Subject, priors: dict[str, Prior]) -> None:
    """Draws samples from these priors, reconstructions and interpolations of the same images each time, and what single methods show."""
    few, many = (subject.batch(subject.positions(subject.split, count)) for count in (grids.FEW, grids.MANY))
    for what, grid in grids.pictures_of(subject.model, few, many, subject.seed, subject.store.attribute_names).items():
        if what != "samples":
            tiling.save(grid, folder / f"{what}.png")
    for name, prior in priors.items():
        latents = prior.sample(64, Generator().manual_seed(subject.seed))
        tiling.save(tiling.grid_of(subject.model.decode(latents), columns=8), folder / f"samples-{name}.png")
