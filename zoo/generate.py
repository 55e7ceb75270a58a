"""Draws pictures with a trained model: samples, reconstructions, interpolations, edits of an attribute.

    python -m zoo.generate run=runs/…                                       # 64 samples
    python -m zoo.generate run=runs/… mode=reconstructions image=photo.jpg
    python -m zoo.generate run=runs/… mode=interpolation                    # a picture and a GIF
    python -m zoo.generate run=runs/… attribute=Smiling strength=1.5
    python -m zoo.generate run=runs/… mode=transfer                         # UDT: every target with every guide's glasses

The same command gives the same bytes. Pictures go to the run's generated/, and none takes the place of another.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.schema import GenerateSettings
from zoo.errors import ZooError
from zoo.files import output_folder, write_atomically
from zoo.generation.options import SHOWN, checked_options
from zoo.progress import chunks
from zoo.runs.wandb_files import shown_path

if TYPE_CHECKING:
    from zoo.generation.figures import Figure


def main() -> None:
    run_command(generate, "generate")


def generate(config: DictConfig) -> None:
    """Checks the options, opens the run, draws, writes and prints where the pictures are."""
    settings = check(config, GenerateSettings)
    mode, options = checked_options(settings)

    from zoo import hardware  # torch and what is built on it: slow to import
    from zoo.generation.figures import FIGURES, FigureRequest
    from zoo.models.base import evaluation_mode
    from zoo.runs.load import open_run

    run = open_run(settings.run, hardware.choose_device(settings.device))
    model = run.model
    if not model.can_encode and (mode != "samples" or options["prior"]):
        raise ZooError(f"{type(model).__name__} cannot encode images: draw mode=samples from its own prior.")
    pixels = model.image_shape[-1]
    if settings.size is not None and settings.size % pixels:
        raise ZooError(f"size={settings.size} must be a multiple of the images' {pixels} pixels, for example {2 * pixels}.")
    out = output_folder(settings.out, run.folder / "generated")
    with evaluation_mode(model):
        asked = settings.count is not None
        figure = FIGURES[mode](FigureRequest(run, mode, options, asked, settings.seed, settings.data_root, settings.cache))
    stem = "-".join([*words(mode, options, settings), f"{run.spent['images_seen']:012d}"])
    write(figure, out, stem, settings.size and settings.size // pixels, settings.save_individual)


def words(mode: str, options: dict[str, Any], settings: GenerateSettings) -> Iterator[str]:
    """What a file's name says: everything that decides the picture."""
    from zoo.generation.inputs import image_files

    yield mode
    if mode == "attribute":
        yield in_a_name(f"{options['attribute']}{options['strength']:+g}")
    if mode == "transfer":
        yield options["way"] + (f"{options['strength']:+g}" if "strength" in options else "")
    if options.get("prior") is not None:
        yield options["prior"]
    for name in ("image", "guide"):
        if options.get(name) is not None:
            files = image_files(options[name])
            yield in_a_name(files[0].stem) + (f"-and-{len(files) - 1}-more" if len(files) > 1 else "")
    if options.get("count") is not None:
        yield f"{options['count']}"
    if options.get("steps") is not None:
        yield f"{options['steps']}steps"
    if settings.size is not None:
        yield f"{settings.size}px"
    if options.get("image") is None or options.get("guide", 0) is None:
        yield f"seed{settings.seed}"


def in_a_name(text: str) -> str:
    """Without what a file's name may not hold, and not too long."""
    return re.sub(r"[^\w.+-]", "_", text)[:60]


def write(figure: "Figure", out: Path, stem: str, factor: int | None, save_individual: bool) -> None:
    """Writes the picture, enlarged by `factor` or so that it can be seen, its animation and single images, and prints where they are."""
    from zoo.viz.tiling import animation, columns_for, enlarged, labelled, png, tile

    rows, columns = figure.table.shape[:2]
    cells = enlarged(figure.table.flatten(0, 1), factor)
    grid = tile(cells, columns)
    picture = png(labelled(grid, figure.columns, figure.rows) if figure.columns else grid)
    path = vacant(out, stem, picture)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, picture)
    more = f", the first {SHOWN:,} of {len(figure.individual_images):,} images" if len(figure.individual_images) > rows * columns else ""
    print(f"{shown_path(path)}: {rows} × {columns} images of {cells.shape[-1]} pixels{more}")
    if figure.frames is not None:
        moving = animation(enlarged(figure.frames, factor), columns_for(figure.frames.shape[1]))
        write_atomically(path.with_suffix(".gif"), moving)
        print(f"{shown_path(path.with_suffix('.gif'))}: the same in motion")
    if save_individual:
        folder, images = path.with_suffix(""), list(figure.individual_images.items())
        folder.mkdir(exist_ok=True)
        for k, _ in chunks(len(images), 1, "writing single images"):
            name, image = images[k]
            (folder / f"{name}.png").write_bytes(png(image))
        print(f"{shown_path(folder)}/: {len(images):,} single images of {figure.table.shape[-1]} pixels")


def vacant(out: Path, stem: str, data: bytes) -> Path:
    """Where a picture goes: `stem`.png, or with a number behind it where that holds another picture."""
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    paths = (out / f"{name}.png" for name in names)
    return next(path for path in paths if not path.exists() or path.read_bytes() == data)


if __name__ == "__main__":
    main()
