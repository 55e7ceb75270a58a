"""The pictures of an evaluation."""

from pathlib import Path

from torch import Generator

from zoo.evaluation.context import EvalContext
from zoo.generation import grids
from zoo.priors import Prior
from zoo.viz import tiling


def draw(folder: Path, context: EvalContext, priors: dict[str, Prior]) -> None:
    """Draws samples from these priors, reconstructions and interpolations of the same images each time, and what single methods show."""
    few, many = (context.batch(context.positions(context.split, count)) for count in (grids.FEW, grids.MANY))
    for what, grid in grids.image_grids(context.model, few, many, context.seed, context.store.attribute_names).items():
        if what != "samples":
            tiling.save(grid, folder / f"{what}.png")
    for name, prior in priors.items():
        latents = prior.sample(64, Generator().manual_seed(context.seed))
        tiling.save(tiling.grid_of(context.model.decode(latents), columns=8), folder / f"samples-{name}.png")
