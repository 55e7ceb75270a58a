"""Draws pictures with a trained model: samples, reconstructions, interpolations, edits of an attribute.

    python -m zoo.generate run=runs/…                                       # 64 samples
    python -m zoo.generate run=runs/… mode=reconstructions image=photo.jpg
    python -m zoo.generate run=runs/… mode=interpolation                    # a picture and a GIF
    python -m zoo.generate run=runs/… attribute=Smiling strength=1.5
    python -m zoo.generate run=runs/… mode=transfer                         # UDT: every target with every guide's glasses

The same command gives the same bytes. Pictures go to the run's generated/, and none takes the place of another.
"""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from zoo import hardware
from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.schema import GenerateSettings
from zoo.errors import ZooError
from zoo.evaluation.samples import FITTED
from zoo.files import output_folder, write_atomically
from zoo.generation.figures import ALL, FIGURES, SHOWN, Figure, FigureRequest
from zoo.generation.inputs import image_files
from zoo.models.base import evaluation_mode
from zoo.progress import chunks
from zoo.runs.load import open_run
from zoo.runs.wandb_files import shown_path
from zoo.viz.animation import animation
from zoo.viz.tiling import SMALLEST, columns_for, enlarged, labelled, png, tile

OPTIONS: dict[str, dict[str, Any]] = {  # what can be drawn -> its options and their defaults
    "samples": {"count": 64, "prior": None},
    "reconstructions": {"count": 16, "image": None},
    "interpolation": {"count": 8, "steps": 11, "image": None},
    "grid": {"steps": 9, "image": None},
    "attribute": {"count": 8, "steps": 7, "attribute": None, "strength": 1.5, "image": None},
    "transfer": {"way": "add"},
}
WAYS: dict[str, dict[str, Any]] = {  # of mode=transfer -> the further options and their defaults
    "add": {"count": 8, "image": None, "guide": None},
    "remove": {"count": 16, "image": None},
    "swap": {"count": 8, "image": None, "guide": None},
    "strength": {"count": 8, "steps": 7, "strength": 1.5, "image": None, "guide": None},
    "interpolation": {"steps": 9, "image": None, "guide": None},
}


def main() -> None:
    run_command(generate, "generate")


def generate(config: DictConfig) -> None:
    """Checks the options, opens the run, draws, writes and prints where the pictures are."""
    settings = check(config, GenerateSettings)
    mode, options = checked_options(settings)
    run = open_run(settings.run, hardware.choose_device(settings.device))
    model = run.model
    if not model.can_encode and (mode != "samples" or options["prior"]):
        raise ZooError(f"{type(model).__name__} cannot encode images: draw mode=samples from its own prior.")
    factor = enlargement(settings.size, model.image_shape[-1])
    out = output_folder(settings.out, run.folder / "generated")
    with evaluation_mode(model):
        asked = settings.count is not None
        figure = FIGURES[mode](FigureRequest(run, mode, options, asked, settings.seed, settings.data_root, settings.cache))
    stem = "-".join([*words(mode, options, settings), f"{run.spent['images_seen']:012d}"])
    write(figure, out, stem, factor, settings.save_individual)


def checked_options(settings: GenerateSettings) -> tuple[str, dict[str, Any]]:
    """What is drawn, and its options with their defaults. Raises ZooError, before any work, for what does not fit."""
    mode = settings.mode or ("samples" if settings.attribute is None else "attribute")
    if mode not in OPTIONS:
        raise ZooError(f"mode={mode} cannot be drawn; choose one of {', '.join(OPTIONS)}.")
    options, asked = dict(OPTIONS[mode]), f"mode={mode}"
    if settings.attribute == ALL:
        asked = f"attribute={ALL}"
        del options["count"]
    if mode == "transfer":
        way = settings.way or options["way"]
        if way not in WAYS:
            raise ZooError(f"way={way} of mode=transfer is not known; choose one of {', '.join(WAYS)}.")
        options |= WAYS[way]
        asked += f" way={way}"
    for name in sorted({name for others in (*OPTIONS.values(), *WAYS.values()) for name in others}):
        given = getattr(settings, name)
        if given is not None and name not in options:
            shown = f"{given:g}" if isinstance(given, float) else given
            raise ZooError(f"{name}={shown} has no meaning for {asked}; its options are {', '.join(options)}.")
        if given is not None:
            options[name] = given
    if "count" in options and settings.image is not None:
        options["count"] = settings.count  # null: all files
    if mode == "attribute" and settings.attribute is None:
        raise ZooError(f"mode=attribute needs the name of one: give attribute=NAME, or attribute={ALL} for one image along all of them.")
    largest = math.isqrt(SHOWN) if options.get("way") in ("add", "swap") else SHOWN  # so many rows and so many columns
    if options.get("count") is not None and options["count"] > largest and not (mode == "samples" and settings.save_individual):
        more = "; more samples can only be written as files of their own: add save_individual=true" if mode == "samples" else "; lower it"
        raise ZooError(f"count={options['count']} is more than the {largest:,} that one picture shows{more}.")
    if options.get("strength") == 0:
        raise ZooError("strength=0 changes nothing; above 0 it adds the attribute, below 0 it removes it.")
    if options.get("prior") not in (None, *FITTED):
        raise ZooError(f"prior={options['prior']} is not known; choose {', '.join(FITTED)}, or leave it out for the model's own.")
    return mode, options


def enlargement(size: int | None, pixels: int) -> int:
    """By how much the model's images are enlarged to be `size` pixels wide. Raises ZooError where that is not a whole number."""
    if size is None:
        return max(1, SMALLEST // pixels)
    if size % pixels:
        raise ZooError(f"size={size} must be a multiple of the images' {pixels} pixels, for example {2 * pixels}.")
    return size // pixels


def words(mode: str, options: dict[str, Any], settings: GenerateSettings) -> Iterator[str]:
    """What a file's name says: everything that decides the picture."""
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


def write(figure: Figure, out: Path, stem: str, factor: int, save_individual: bool) -> None:
    """Writes the picture, its animation and single images, and prints where they are."""
    rows, columns = figure.table.shape[:2]
    grid = tile(enlarged(figure.table.flatten(0, 1), factor), columns)
    picture = png(labelled(grid, figure.columns, figure.rows) if figure.columns else grid)
    path = vacant(out, stem, picture)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, picture)
    more = f", the first {SHOWN:,} of {len(figure.individual_images):,} images" if len(figure.individual_images) > rows * columns else ""
    print(f"{shown_path(path)}: {rows} × {columns} images of {figure.table.shape[-1] * factor} pixels{more}")
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
